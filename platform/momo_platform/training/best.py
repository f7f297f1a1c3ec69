"""The checkpoint with the best held-out losses, where `keep=best` asks for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from momo_platform.training.checkpoint import checkpoint_of, load_finished
from momo_platform.training.config import TrainConfig
from momo_platform.training.resume import damaged_checkpoint
from momo_platform.training.validation import TOTAL


class BestCheckpoint:
    """`record`: its `step` and its `value`; empty before the first, and where nobody asks."""

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        self._folder, self._config = folder, config
        self.record: dict[str, Any] = {}

    def is_new(self, step: int, values: Mapping[str, float]) -> bool:
        """Whether these are the best held-out losses so far, where that matters. The same on all
        ranks."""
        if self._config.keep != "best":
            return False
        if not values[TOTAL] < self.record.get("value", math.inf):
            return False
        self.record = {"step": step, "value": values[TOTAL]}
        return True

    @property
    def _step(self) -> int:
        return int(self.record.get("step", self._config.steps))

    @property
    def checkpoint(self) -> Path | None:
        """None where nobody asked, or the last one is it."""
        return None if self._step == self._config.steps else checkpoint_of(self._folder, self._step)

    def forget_damaged(self, warn: Callable[[str], None]) -> None:
        """The last model stays instead, and `warn` is told."""
        if self._step == self._config.steps:
            return
        if bad := damaged_checkpoint(self._folder, self._step):
            warn(f"step {self._step}, the best, is damaged ({bad}): keeping the last model instead")
            self.record = {}

    def load(self, task: nn.Module) -> None:
        """Put its weights into the trainer's task: for rank 0, after `Trainer.finish`."""
        if self.checkpoint is not None:
            load_finished(self.checkpoint, task)
