"""Masked image modelling (MAE, arXiv 2111.06377): the hidden patches of a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from momo.objectives.base import Objective
from momo.passes import MaskedImage

if TYPE_CHECKING:
    from momo.losses import Loss
    from momo.views import ImageViews


class MaskedPatches(Objective):
    name = "mim"
    modality = "image"
    title = "masked patches (MIM)"
    reads = (MaskedImage(patches=True),)
    parts = ("pixel_decoder",)

    def loss(self, views: ImageViews) -> Loss:
        return views.patch_loss(views.tokens)


OBJECTIVE = MaskedPatches()
