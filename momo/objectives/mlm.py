"""Masked language modelling (BERT, arXiv 1810.04805): the masked words of a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from momo.objectives.base import Objective
from momo.passes import MaskedText

if TYPE_CHECKING:
    from torch import Tensor

    from momo.losses import Loss
    from momo.micro_batches import Part
    from momo.views import TextViews


class MaskedWords(Objective):
    name = "mlm"
    modality = "text"
    title = "masked words (MLM)"
    reads = (MaskedText(words=True),)
    parts = ("word_head",)

    def loss(self, views: TextViews) -> Loss:
        return views.word_loss(views.word_tokens)

    def whole_count(self, loss: Loss, part: Part, rows: int) -> Tensor:
        return loss.count.new_full((), part.words)


OBJECTIVE = MaskedWords()
