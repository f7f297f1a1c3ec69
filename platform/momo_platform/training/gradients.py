"""The three gradient schedules: accumulate, alternate, joint.

All of them divide each loss by its count over *all* ranks, so that the averaged gradient equals
the one of a single process with the whole batch.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from momo_platform.training.config import GradientSchedule


@dataclass
class StepResult:
    """Global means of one update: losses and metrics by name; `finite` is the same on all ranks."""

    losses: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    gradient_norms: dict[str, float] = field(default_factory=dict)
    gradient_cosines: dict[str, float] = field(default_factory=dict)
    finite: bool = True


def modalities_of_step(
    schedule: GradientSchedule, modalities: Sequence[str], seed: int, step: int
) -> tuple[str, ...]:
    """Which modalities a step uses; `alternate` draws one from (seed, step), equal on all ranks."""
    if schedule != "alternate":
        return tuple(modalities)
    digest = hashlib.sha256(f"{seed}:{step}".encode()).digest()
    return (modalities[int.from_bytes(digest[:8], "big") % len(modalities)],)


def flat_gradient(module: nn.Module) -> Tensor:
    """All gradients as one vector [parameters]; zeros where there is none yet."""
    return torch.cat(
        [
            (p.grad if p.grad is not None else torch.zeros_like(p)).reshape(-1)
            for p in module.parameters()
            if p.requires_grad
        ]
    )


def _world_size() -> int:
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def _weighted_loss(losses: Mapping[str, Any], weights: Mapping[str, float], result: StepResult):
    """Σ weight · sum / global count, scaled so that DDP's mean over ranks is the global mean."""
    world = _world_size()
    names = list(losses)
    metric_names = [(n, m) for n in names for m in losses[n].metrics]
    packed = torch.stack(
        [losses[n].sum.detach().float() for n in names]
        + [losses[n].count.detach().float() for n in names]
        + [losses[n].metrics[m].detach().float() / world for n, m in metric_names]
    )
    if world > 1:
        torch.distributed.all_reduce(packed)
    sums, counts, means = packed.split([len(names), len(names), len(metric_names)])
    counts = counts.clamp_min(1.0)
    values = dict(zip(names, (sums / counts).tolist(), strict=True))
    result.losses.update(values)
    for (_, metric), value in zip(metric_names, means.tolist(), strict=True):
        result.metrics[metric] = value
    result.finite = result.finite and bool(torch.isfinite(sums).all())
    total = torch.zeros((), device=packed.device)
    for index, name in enumerate(names):
        total = total + losses[name].sum * (weights.get(name, 1.0) * world / counts[index])
    return total


def backward_pass(
    module: nn.Module,
    batches: Mapping[str, Mapping[str, Tensor]],
    weights: Mapping[str, float],
    schedule: GradientSchedule,
    *,
    diagnose: bool = False,
) -> StepResult:
    """Fill the gradients of one update. `module` is a `TouchedTask` or DDP around one.

    With `diagnose`, also the norm of each modality's gradient and the cosine between modalities,
    over all ranks (one more all-reduce a modality; `accumulate` only).
    """
    result = StepResult()
    distributed = isinstance(module, DistributedDataParallel)
    names = list(batches)
    if schedule == "joint":
        # One forward through DDP's wrapper only: it may be entered once per synchronised backward.
        inner: nn.Module = module.module if distributed else module
        totals = []
        for name in names[:-1]:
            losses, _ = inner(name, batches[name])
            totals.append(_weighted_loss(losses, weights, result))
        losses, zero = module(names[-1], batches[names[-1]], touch_all=True)
        totals.append(_weighted_loss(losses, weights, result))
        total = torch.stack(totals).sum() + (zero if zero is not None else 0.0)
        if result.finite:
            total.backward()
        return result

    diagnose = diagnose and len(names) > 1
    previous: Tensor | None = None
    vectors: dict[str, Tensor] = {}
    for name in names:
        last = name == names[-1]
        no_sync = module.no_sync() if distributed and not last else contextlib.nullcontext()
        with no_sync:
            losses, zero = module(name, batches[name], touch_all=last)
            total = _weighted_loss(losses, weights, result)
            if not result.finite:
                return result
            (total if zero is None else total + zero).backward()
        if diagnose:
            current = flat_gradient(module)
            if distributed and not last:
                torch.distributed.all_reduce(current)
                current /= _world_size()
            vectors[name] = current if previous is None else current - previous
            previous = current
    if diagnose:
        for index, name in enumerate(names):
            result.gradient_norms[name] = vectors[name].norm().item()
            for other in names[index + 1 :]:
                cosine = torch.nn.functional.cosine_similarity(vectors[name], vectors[other], dim=0)
                result.gradient_cosines[f"{name}/{other}"] = cosine.item()
    return result
