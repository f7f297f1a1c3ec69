"""The gradient schedules: accumulate, alternate, joint, sequential.

All of them divide each loss by its count over *all* ranks, so that the averaged gradient equals
the one of a single process with the whole batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from momo_platform.training.config import GradientSchedule
from momo_platform.training.parallel import complete_gradients, is_sharded, world_size
from momo_platform.training.task import LossParts


@dataclass
class StepResult:
    """Global means of one update, losses and metrics by name, each a number on the device: whoever
    reads one waits for the device. `finite`, bool, is the same on all ranks; `bad` tells for each
    modality on which ranks its loss was not finite, [ranks]."""

    finite: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)
    metrics: dict[str, Tensor] = field(default_factory=dict)
    gradient_norms: dict[str, Tensor] = field(default_factory=dict)
    gradient_cosines: dict[str, Tensor] = field(default_factory=dict)
    bad: dict[str, Tensor] = field(default_factory=dict)

    def read(self) -> dict[str, float]:
        """All numbers by kind and name (`loss/mim`), brought to the host at once."""
        kinds = {
            "loss": self.losses,
            "metric": self.metrics,
            "gradient_norm": self.gradient_norms,
            "gradient_cosine": self.gradient_cosines,
        }
        named = {
            f"{kind}/{n}": value for kind, values in kinds.items() for n, value in values.items()
        }
        values = torch.stack([value.float() for value in named.values()]).tolist()
        return dict(zip(named, values, strict=True))


Split = Callable[[str, Any], Sequence[Any]]


def in_one_part(modality: str, batch: Any) -> Sequence[Any]:
    """A batch in one part."""
    return (batch,)


def flat_gradient(module: nn.Module) -> Tensor:
    """All gradients as one vector [parameters]; zeros where there is none yet."""
    return torch.cat(
        [
            (p.grad if p.grad is not None else torch.zeros_like(p)).reshape(-1)
            for p in module.parameters()
            if p.requires_grad
        ]
    )


def _weighted_loss(
    modality: str,
    losses: Mapping[str, LossParts],
    weights: Mapping[str, float],
    result: StepResult,
) -> Tensor:
    """Σ weight · sum / global count, scaled so that DDP's mean over ranks is the global mean."""
    world = world_size()
    names = list(losses)
    metric_names = [(n, m) for n in names for m in losses[n].metrics]
    sums = torch.stack([losses[n].total.detach().float() for n in names])
    bad = torch.zeros(world, device=sums.device)
    bad[torch.distributed.get_rank() if world > 1 else 0] += (~sums.isfinite()).any()
    own = {n: losses[n].terms.detach().float() for n in names}
    weighed = [  # a mean of nothing is none, whatever its value
        (losses[n].metrics[m].detach().float() * own[n]).where(own[n] > 0, 0.0)
        for n, m in metric_names
    ]
    packed = torch.cat([sums, torch.stack([*own.values(), *weighed]), bad])
    if world > 1:
        torch.distributed.all_reduce(packed)
    sums, counts, found, bad = packed.split([len(names), len(names), len(metric_names), world])
    counts = counts.clamp_min(1.0)
    _add(result.losses, names, (sums / counts).unbind())
    of = dict(zip(names, counts.unbind(), strict=True))
    metrics = [v / of[n] for (n, _), v in zip(metric_names, found.unbind(), strict=True)]
    _add(result.metrics, [metric for _, metric in metric_names], metrics)
    _add(result.bad, [modality], [bad])
    result.finite = result.finite & sums.isfinite().all()
    total = torch.zeros((), device=packed.device)
    for index, name in enumerate(names):
        total = total + losses[name].total * (weights.get(name, 1.0) * world / counts[index])
    return total


def _add(found: dict[str, Tensor], names: Sequence[str], values: Sequence[Tensor]) -> None:
    """To those of a batch's earlier parts."""
    for name, value in zip(names, values, strict=True):
        found[name] = found[name] + value if name in found else value


def backward_pass(
    module: nn.Module,
    batches: Mapping[str, Mapping[str, Tensor]],
    weights: Mapping[str, float],
    schedule: GradientSchedule,
    *,
    diagnose: bool = False,
    split: Split = in_one_part,
) -> StepResult:
    """Fill the gradients of one update. `module` is a `TouchedTask`, sharded or in DDP or neither.

    With `diagnose`, also the norm of each modality's gradient and the cosine between modalities,
    over all ranks (one more all-reduce a modality; `accumulate` only, and not where sharded).
    A sharded module reduces after each modality: to wait would keep whole gradients. `split` gives
    the parts of a modality's batch that go forward and backward in turn (not under `joint`).
    Nothing here waits for the device: gradients of a loss that is not finite are made all the same,
    and the caller updates only where `finite`.
    """
    result = StepResult(torch.ones((), dtype=torch.bool, device=next(module.parameters()).device))
    distributed = isinstance(module, DistributedDataParallel)
    sharded = is_sharded(module)
    names = list(batches)
    if schedule == "joint":
        _joint_pass(module, batches, weights, result)
        return result

    diagnose = diagnose and len(names) > 1 and not sharded
    previous: Tensor | None = None
    vectors: dict[str, Tensor] = {}
    for name in names:
        last = name == names[-1]
        parts = split(name, batches[name])
        for part in parts:
            synchronises = distributed and last and part is parts[-1]
            alone: Any = contextlib.nullcontext()
            if isinstance(module, DistributedDataParallel) and not synchronises:
                alone = module.no_sync()
            with alone:
                losses, zero = module(name, part, touch_all=synchronises)
                total = _weighted_loss(name, losses, weights, result)
                (total if zero is None else total + zero).backward()
        if diagnose:
            current = flat_gradient(module)
            if distributed and not last:
                torch.distributed.all_reduce(current)
                current /= world_size()
            vectors[name] = current if previous is None else current - previous
            previous = current
    complete_gradients(module)
    if diagnose:
        for index, name in enumerate(names):
            result.gradient_norms[name] = vectors[name].norm()
            for other in names[index + 1 :]:
                cosine = torch.nn.functional.cosine_similarity(vectors[name], vectors[other], dim=0)
                result.gradient_cosines[f"{name}/{other}"] = cosine
    return result


def _joint_pass(
    module: nn.Module,
    batches: Mapping[str, Mapping[str, Tensor]],
    weights: Mapping[str, float],
    result: StepResult,
) -> None:
    """One forward through DDP's wrapper only: it may be entered once per synchronised backward."""
    *first, last = batches
    distributed = isinstance(module, DistributedDataParallel)
    inner: nn.Module = module.module if distributed else module
    totals = []
    for name in first:
        losses, _ = inner(name, batches[name])
        totals.append(_weighted_loss(name, losses, weights, result))
    losses, zero = module(last, batches[last], touch_all=distributed)
    totals.append(_weighted_loss(last, losses, weights, result))
    total = torch.stack(totals).sum()
    (total if zero is None else total + zero).backward()
    complete_gradients(module)
