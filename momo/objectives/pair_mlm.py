"""Masked language modelling with the picture beside the text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from momo.objectives.mlm import MaskedWords
from momo.passes import Joint

if TYPE_CHECKING:
    from momo.losses import Loss
    from momo.views import PairViews


class MaskedWordsOfPairs(MaskedWords):
    name = "pair_mlm"
    modality = "pair"
    title = "masked words beside a picture (pair MLM)"
    reads = (Joint(words=True),)

    def loss(self, views: PairViews) -> Loss:
        joint = views.joint(self)
        return views.word_loss(joint.read(joint.layout.words))


OBJECTIVE = MaskedWordsOfPairs()
