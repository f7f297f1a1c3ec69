"""Masked image modelling with the text beside the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from momo.objectives.base import Objective
from momo.passes import Joint

if TYPE_CHECKING:
    from momo.losses import Loss
    from momo.views import PairViews


class MaskedPatchesOfPairs(Objective):
    name = "pair_mim"
    modality = "pair"
    title = "masked patches beside a caption (pair MIM)"
    reads = (Joint(patches=True),)
    parts = ("pixel_decoder",)

    def loss(self, views: PairViews) -> Loss:
        joint = views.joint(self)
        return views.patch_loss(joint.read(joint.layout.pictures))


OBJECTIVE = MaskedPatchesOfPairs()
