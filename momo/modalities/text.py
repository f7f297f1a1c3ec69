"""Texts: `ids` [B, T], and `noise` [B, T, 3] that masks their words."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

from momo.modalities.base import Batch, Modality
from momo.passes import Shape

if TYPE_CHECKING:
    from momo.config import ModelConfig, TaskConfig
    from momo.views import Views


class Text(Modality):
    name = "text"
    rows_by = "ids"
    drawn_by = "masked_ids"
    noise: ClassVar[str] = "noise"
    """What masks words, until `on_host` has used it up."""

    def views(self) -> type[Views]:
        from momo.views import TextViews

        return TextViews

    def ratio(self, task: TaskConfig) -> float:
        """Of words that are masked."""
        return task.text_mask_ratio

    def on_host(self, batch: Batch, model: ModelConfig, task: TaskConfig) -> dict[str, Any]:
        """Texts cut to the longest, words masked, and everything counted that a GPU would have to
        be asked for."""
        if self.noise not in batch:
            return dict(batch)
        from momo.batches import with_masked_words

        ratio = self.ratio(task)
        return with_masked_words(batch, self.noise, vocab_size=model.vocab_size, ratio=ratio)

    def patches(self, batch: Batch) -> int:
        """Of the picture beside the text."""
        return 0

    def shape(self, model: ModelConfig, rows: int, length: int) -> Shape:
        return Shape(rows, length, 0)

    def shapes(self, batch: Batch) -> list[Shape]:
        """Without padding: by the texts' lengths."""
        known = batch["texts"].of if "texts" in batch else (batch["ids"] != 0).sum(dim=1).tolist()
        patches = self.patches(batch)
        return [Shape(rows, length, patches) for length, rows in sorted(Counter(known).items())]


MODALITY = Text()
