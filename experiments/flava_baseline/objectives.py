"""FLAVA's objectives, on `transformers.FlavaForPreTraining`. No torch on import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from momo.objectives.base import Objective

if TYPE_CHECKING:
    from experiments.flava_baseline.task import FlavaViews
    from momo.losses import Loss


class FlavaVisualWords(Objective):
    name = "mim"
    modality = "image"
    parts = ("flava.image_model", "mim_head")

    def loss(self, views: FlavaViews) -> Loss:
        return views.mean(views.task.visual_word_loss(views.batch))


class FlavaMaskedWords(Objective):
    name = "mlm"
    modality = "text"
    parts = ("flava.text_model", "mlm_head")

    def loss(self, views: FlavaViews) -> Loss:
        return views.mean(views.task.word_loss(views.batch))


class FlavaContrastive(Objective):
    name = "global_contrastive"
    modality = "pair"
    parts = (
        *("flava.image_model", "flava.text_model", "flava.logit_scale"),
        *("flava.image_projection", "flava.text_projection"),
    )

    def loss(self, views: FlavaViews) -> Loss:
        return views.mean(getattr(views.pair_losses, self.name))


class FlavaMatching(FlavaContrastive):
    name = "itm"
    parts = (
        *("flava.image_model", "flava.text_model", "flava.multimodal_model"),
        *("flava.image_to_mm_projection", "flava.text_to_mm_projection", "itm_head"),
    )


class FlavaMaskedWordsOfPairs(FlavaMatching):
    name = "mmm_text"
    parts = (*FlavaMatching.parts[:-1], "mmm_text_head")


class FlavaVisualWordsOfPairs(FlavaMatching):
    name = "mmm_image"
    parts = (*FlavaMatching.parts[:-1], "mmm_image_head")


OBJECTIVES = (
    *(FlavaVisualWords(), FlavaMaskedWords()),
    *(FlavaContrastive(), FlavaMatching(), FlavaMaskedWordsOfPairs(), FlavaVisualWordsOfPairs()),
)
