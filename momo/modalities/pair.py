"""Pictures with their texts: what both have, and noise for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from momo.modalities.base import Batch
from momo.modalities.text import Text
from momo.passes import Shape

if TYPE_CHECKING:
    from momo.config import ModelConfig, TaskConfig
    from momo.views import Views


class Pair(Text):
    name = "pair"
    noise = "noise_text"
    drawn_by = "noise_image"

    def views(self) -> type[Views]:
        from momo.views import PairViews

        return PairViews

    def ratio(self, task: TaskConfig) -> float:
        return task.pair_text_mask_ratio

    def shape(self, model: ModelConfig, rows: int, length: int) -> Shape:
        return Shape(rows, length, model.num_patches)

    def patches(self, batch: Batch) -> int:
        return batch["noise_image"].shape[1]


MODALITY = Pair()
