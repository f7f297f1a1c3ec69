"""Held-out losses while a run trains. Training is the same to the bit with and without."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from momo_platform.data.held_out_rows import ROWS_OF_RANKS
from momo_platform.training.average import WeightAverage
from momo_platform.training.config import TrainConfig
from momo_platform.training.feed import to_device, to_tensors
from momo_platform.training.parallel import reshard, world_size
from momo_platform.training.task import LossParts, TouchedTask, TrainingSetup, TrainingTask
from momo_platform.training.validation_plan import ValidationPlan, plan_validation

TOTAL = "valid/loss/total"
"""The weighted sum of all held-out losses: what the best checkpoint has the least of."""
_SEED = 0


class Validation:
    """Evaluations of a task on the setup's held-out rows; every rank takes part in each.

    Losses are sums over all rows and ranks divided by their counts, so they do not depend on how
    many ranks there are. Where a task offers `with_rows` and `measure`, what it finds in the rows
    of all ranks together is recorded too. Prepared batches stay in memory, on the host.
    """

    def __init__(
        self,
        setup: TrainingSetup,
        config: TrainConfig,
        task: TouchedTask,
        device: torch.device,
        average: WeightAverage | None = None,
    ) -> None:
        """`average`: what is measured in the place of the weights."""
        self._setup, self._config, self._device = setup, config, device
        self._task, self._average = task, average
        held_out = setup.held_out
        units = {name: rows.unit for name, rows in held_out.items()}
        available = {name: len(rows) for name, rows in held_out.items()}
        self.plan: ValidationPlan = plan_validation(config, available, units)
        self.seconds = 0.0
        self._batches: dict[str, list[dict[str, Any]]] = {}

    def due(self, step: int) -> bool:
        """Whether `run` is wanted after `step` steps."""
        return self.plan.due(step)

    def run(self) -> dict[str, float]:
        """Every objective's `valid/loss/…`, their `TOTAL`, and what the task measures as
        `valid/…`. Equal on all ranks."""
        started = time.perf_counter()
        with self._aside():
            found: dict[str, float] = {}
            for modality in self.plan.batches:
                found |= self._of(modality)
        losses = {n: v for n, v in found.items() if n.startswith("loss/")}
        weights = cast(TrainingTask, self._setup.task).weights
        total = sum(weights.get(n.removeprefix("loss/"), 1.0) * v for n, v in losses.items())
        self.seconds += time.perf_counter() - started
        return {f"valid/{name}": value for name, value in found.items()} | {TOTAL: total}

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """No gradient, no dropout, nothing compiled for it; afterwards all is as it was."""
        devices = [self._device] if self._device.type == "cuda" else []
        modes = [(part, part.training) for part in self._task.modules()]
        reshard(self._task)
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=devices))
            stack.enter_context(torch.no_grad())
            if self._config.scaling.compile:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            if self._average is not None:
                stack.enter_context(self._average.in_place())
            torch.manual_seed(_SEED)
            self._task.eval()
            try:
                yield
            finally:
                reshard(self._task)  # a sharded task keeps what was gathered for a backward pass
                for part, training in modes:
                    part.training = training

    def _of(self, modality: str) -> dict[str, float]:
        sums: dict[str, Tensor] = {}
        counts: dict[str, Tensor] = {}
        rows: dict[str, list[Tensor]] = {}
        for batch in self._prepared(modality):
            # Rows that every rank has count once.
            counted = len(batch[ROWS_OF_RANKS]) == world_size() or not _rank()
            whole: dict[str, Tensor] = {}
            for losses, kept in self._parts(modality, batch):
                for name, loss in losses.items():
                    value = loss.total.double() * counted
                    sums[name] = sums.get(name, 0.0) + value
                    whole[name] = loss.terms.double() * counted  # a part has its batch's count
                for name, values in kept.items():
                    rows.setdefault(name, []).append(values if counted else values[:0])
            for name, count in whole.items():
                counts[name] = counts.get(name, 0.0) + count
        names = sorted(sums)
        packed = torch.stack([torch.stack([sums[n], counts[n]]) for n in names])
        if world_size() > 1:
            torch.distributed.all_reduce(packed)
        means = (packed[:, 0] / packed[:, 1].clamp_min(1.0)).tolist()
        found = {f"loss/{name}": mean for name, mean in zip(names, means, strict=True)}
        measure = getattr(self._setup.task, "measure", None)
        if rows and measure is not None:
            gathered = {name: _gathered(torch.cat(parts)) for name, parts in rows.items()}
            found |= measure(modality, gathered)
        return found

    def _parts(
        self, modality: str, batch: dict[str, Any]
    ) -> Iterator[tuple[Mapping[str, LossParts], Mapping[str, Tensor]]]:
        """Losses and rows of a batch's parts, which are as large as in training."""
        parts: Sequence[Any] = (batch,)
        size = self._config.scaling.micro_batch_size
        # Ranks gather a sharded model together: with unlike numbers of parts they would wait.
        if size and len({-(-rows // size) for rows in batch[ROWS_OF_RANKS]}) == 1:
            parts = cast(Any, self._setup.task).split(modality, batch, size)
        for part in parts:
            losses, kept = self._task(modality, part, rows=True)
            yield losses, kept

    def _prepared(self, modality: str) -> Iterator[dict[str, Any]]:
        """This rank's batches on the device."""
        task: Any = self._setup.task
        if modality not in self._batches:
            made = self._setup.held_out[modality].batches(*self.plan.batches[modality])
            prepare = getattr(task, "on_host", lambda _, batch: batch)
            self._batches[modality] = [prepare(modality, to_tensors(batch)) for batch in made]
        finish = getattr(task, "on_device", lambda _, batch: batch)
        for batch in self._batches[modality]:
            yield finish(modality, to_device(batch, self._device))


def _rank() -> int:
    return torch.distributed.get_rank() if world_size() > 1 else 0


def _gathered(rows: Tensor) -> Tensor:
    """All ranks' rows [B, …], in the order of the ranks."""
    world = world_size()
    if world == 1:
        return rows
    counts = torch.zeros(world, dtype=torch.int64, device=rows.device)
    counts[_rank()] = len(rows)
    torch.distributed.all_reduce(counts)
    sent = rows.new_zeros((int(counts.max()), *rows.shape[1:]))
    sent[: len(rows)] = rows
    received = [torch.empty_like(sent) for _ in range(world)]
    torch.distributed.all_gather(received, sent.contiguous())
    return torch.cat([part[:n] for part, n in zip(received, counts.tolist(), strict=True)])


def describe(values: Mapping[str, float]) -> str:
    """One line for a person: 'held-out mim 0.52, image_to_text_r1 0.41'."""
    named = {name.rpartition("/")[2]: value for name, value in values.items() if name != TOTAL}
    return "held-out " + ", ".join(f"{name} {value:.3g}" for name, value in named.items())
