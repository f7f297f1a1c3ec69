"""What the loop asks of a task: losses as sums with their counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from momo_platform.training.parallel import touch


class SummedLoss(Protocol):
    """A loss before division: `sum` and `count` are scalars, `metrics` are already means over as
    many terms as `count` says.

    The loop divides by the count over all ranks; dividing by each rank's own count would weigh
    the gradients of short batches wrongly. Metrics are weighed by the counts, too.
    """

    @property
    def sum(self) -> Tensor: ...
    @property
    def count(self) -> Tensor: ...
    @property
    def metrics(self) -> Mapping[str, Tensor]: ...


class LossParts(NamedTuple):
    """A loss's tensors in a form that FSDP2 looks into."""

    total: Tensor
    terms: Tensor
    metrics: Mapping[str, Tensor]


class TrainingTask(Protocol):
    """An `nn.Module` whose forward turns a modality's batch into named losses.

    Optional methods: `blocks()` names the repeated blocks (sharding, compilation);
    `enable_activation_checkpointing("elementwise" or "blocks")`; `tokens(modality, batch)` and
    `flops(modality, batch)` give what a batch costs in training, from its shapes, for the log;
    `on_host(modality, batch)` and `on_device(modality, batch)` prepare a batch before and after it
    is copied to the device (`feed`). `after_step()` runs on every rank after each update, taken or
    skipped, and may keep parameters within their limits, in place. `with_rows(modality, batch)`
    gives the losses and tensors [rows, …] by name, and `measure(modality, rows)` what those of all
    held-out rows show, by name (`validation`).
    """

    weights: Mapping[str, float]

    def __call__(self, modality: str, batch: Mapping[str, Tensor]) -> Mapping[str, SummedLoss]: ...


class HeldOut(Protocol):
    """A modality's held-out rows. `unit`: rows that stay together on one rank."""

    @property
    def unit(self) -> int: ...
    def __len__(self) -> int: ...
    def batches(self, count: int, size: int) -> Iterable[Mapping[str, Any]]:
        """This rank's part of each batch, with the fact `rows_of_ranks` (`held_out_rows`)."""
        ...


@dataclass
class TrainingSetup:
    """What a recipe's builder returns to the loop on every worker.

    `task` is an `nn.Module` fulfilling `TrainingTask`; `loaders` maps a modality to its batches;
    `save(task, folder)` writes the finished model, called on rank 0 only. `held_out` maps a
    modality to the rows that the run is measured on while it trains.
    """

    task: nn.Module
    loaders: Mapping[str, Any]
    save: Callable[[nn.Module, Path], None]
    held_out: Mapping[str, HeldOut] = field(default_factory=dict)


class TouchedTask(nn.Module):
    """Wraps a task: autocast, and one call that touches every parameter with a zero gradient.

    Under DDP the reducer waits for each parameter in the synchronising micro-batch; a head that
    only another modality uses would otherwise never arrive and its accumulated gradient would
    never be averaged.
    """

    def __init__(self, task: nn.Module, bf16: bool = False) -> None:
        super().__init__()
        self.task = task
        self.bf16 = bf16

    def forward(
        self,
        modality: str,
        batch: Mapping[str, Tensor],
        touch_all: bool = False,
        rows: bool = False,
    ) -> tuple[Mapping[str, LossParts], Any]:
        """Losses, and with `touch_all` a zero to add to them. With `rows`, for measuring, the
        losses and tensors by row, where the task gives some."""
        device = next(self.parameters()).device.type
        kept: Mapping[str, Tensor] = {}
        with_rows: Any = getattr(self.task, "with_rows", None) if rows else None
        losses: Mapping[str, SummedLoss]
        with torch.autocast(device, torch.bfloat16, enabled=self.bf16):
            if with_rows is not None:
                losses, kept = with_rows(modality, batch)
            else:
                losses = self.task(modality, batch)
        parts = {n: LossParts(x.sum, x.count, dict(x.metrics)) for n, x in losses.items()}
        if rows:
            return parts, kept
        if not touch_all:
            return parts, None
        return parts, touch(self.parameters())
