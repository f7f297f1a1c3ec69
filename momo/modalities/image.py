"""Pictures: `pixels`, and `noise` [B, N] that masks their patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from momo.modalities.base import Batch, Modality
from momo.passes import Shape

if TYPE_CHECKING:
    from momo.config import ModelConfig
    from momo.views import Views


class Image(Modality):
    name = "image"
    rows_by = "noise"

    def views(self) -> type[Views]:
        from momo.views import ImageViews

        return ImageViews

    def shape(self, model: ModelConfig, rows: int, length: int) -> Shape:
        return Shape(rows, 0, model.num_patches)

    def shapes(self, batch: Batch) -> list[Shape]:
        return [Shape(self.rows(batch), 0, batch["noise"].shape[1])]


MODALITY = Image()
