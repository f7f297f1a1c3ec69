"""What the device decided about each update, told to the host one step late."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from momo_platform.training.gradients import StepResult


@dataclass(frozen=True)
class Verdict:
    """Whether `step` updated the weights, on which ranks a modality's loss was not finite, and
    whether a rank was asked to stop. `used`: batches of each modality before the step."""

    step: int
    finite: bool
    culprits: Mapping[str, list[int]]
    stop: bool
    used: Mapping[str, int]
    result: StepResult


@dataclass
class _Underway:
    step: int
    used: dict[str, int]
    result: StepResult
    flags: Tensor
    copied: torch.cuda.Event | None


class Verdicts:
    """Flags on their way from the device.

    On a GPU a step's flags are copied beside the work and read when the next step's work is
    already queued, so that the device never runs dry; on a CPU they are there at once.
    """

    def __init__(self, device: torch.device) -> None:
        self._late = 1 if device.type == "cuda" else 0
        self._underway: deque[_Underway] = deque()

    def add(self, step: int, used: Mapping[str, int], result: StepResult, stop: Tensor) -> None:
        """`stop`: above 0 where a rank was asked to stop, no dimension, on the device."""
        flags = torch.cat(
            [torch.stack([result.finite.float(), stop.float()]), *result.bad.values()]
        )
        copied = None
        if self._late:
            host = torch.empty(flags.shape, dtype=flags.dtype, pin_memory=True)
            flags = host.copy_(flags, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
        self._underway.append(_Underway(step, dict(used), result, flags, copied))

    def settle(self, *, everything: bool = False) -> list[Verdict]:
        """Verdicts that are due, in order; with `everything`, the newest step's too."""
        found = []
        while len(self._underway) > (0 if everything else self._late):
            one = self._underway.popleft()
            if one.copied is not None:
                one.copied.synchronize()
            finite, stop, *bad = one.flags.tolist()
            ranks = iter(bad)
            culprits = {
                name: [rank for rank in range(len(flags)) if next(ranks)]
                for name, flags in one.result.bad.items()
            }
            guilty = {name: some for name, some in culprits.items() if some}
            found.append(Verdict(one.step, bool(finite), guilty, stop > 0, one.used, one.result))
        return found
