"""The losses of training as plain functions that return a `Loss`: a sum with its count."""

from momo.losses.contrastive import contrastive_loss, pair_keys, same_meaning
from momo.losses.loss import Loss
from momo.losses.masked import mim_loss, mlm_loss, patch_targets
from momo.losses.matching import (
    Negatives,
    draw_negatives,
    hard_negatives,
    matching_loss,
)

__all__ = [
    "Loss",
    "Negatives",
    "contrastive_loss",
    "draw_negatives",
    "hard_negatives",
    "matching_loss",
    "mim_loss",
    "mlm_loss",
    "pair_keys",
    "patch_targets",
    "same_meaning",
]
