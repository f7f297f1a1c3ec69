"""What a config asks of a task and its loaders: checked, and switched on."""

from __future__ import annotations

import logging
from typing import Any

from torch import nn

from momo_platform.data.share import rows_of_ranks
from momo_platform.stages.errors import UserError
from momo_platform.training.compiling import compile_regions
from momo_platform.training.config import TrainConfig
from momo_platform.training.parallel import world_size
from momo_platform.training.task import TrainingSetup

logger = logging.getLogger(__name__)


def prepare_task(task: nn.Module, config: TrainConfig, rank: int) -> None:
    """Switch on what the task offers. Raises `UserError` where it does not; warns on rank 0."""
    what = config.scaling.activation_checkpointing
    if what != "none":
        enable: Any = getattr(task, "enable_activation_checkpointing", None)
        if enable is None:
            raise UserError(
                f"{type(task).__name__} can't do activation checkpointing: "
                "set scaling.activation_checkpointing to none"
            )
        enable(what)
    if config.scaling.micro_batch_size and not hasattr(task, "split"):
        raise UserError(
            f"{type(task).__name__} can't divide a batch: set scaling.micro_batch_size to 0"
        )
    if config.scaling.compile:
        if what == "blocks" and not rank:
            logger.warning(
                "scaling.compile leaves out the blocks that "
                "scaling.activation_checkpointing=blocks computes twice, the encoder's: "
                "set scaling.activation_checkpointing to elementwise or none"
            )
        compile_regions(task)


def check_parts(setup: TrainingSetup, config: TrainConfig) -> None:
    """Raises `UserError` where ranks would divide their batches into unlike numbers of parts:
    each part is reduced over all ranks."""
    size = config.scaling.micro_batch_size
    for name, loader in setup.loaders.items() if size else ():
        unit, batch = getattr(loader, "unit", 1), config.batch_sizes[name]
        rows = rows_of_ranks(batch, world_size(), unit)
        if len({-(-own // size) for own in rows}) > 1:
            raise UserError(
                f"scaling.micro_batch_size={size} divides the {name} rows of the workers, "
                f"{sorted(set(rows))}, into unlike numbers of parts: give a larger one, or "
                f"batch_sizes {name} a multiple of {unit} × {world_size()} workers"
            )
