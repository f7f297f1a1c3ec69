"""The losses, as plain functions first; `task` joins them for the training stages."""

from momo.objectives.losses import (
    Loss,
    contrastive_loss,
    matching_loss,
    mim_loss,
    mlm_loss,
)
from momo.objectives.task import MoMoTask, TaskConfig

__all__ = [
    "Loss",
    "MoMoTask",
    "TaskConfig",
    "contrastive_loss",
    "matching_loss",
    "mim_loss",
    "mlm_loss",
]
