"""The image half of SigLIP (arXiv 2303.15343) as `transformers` saves it.

It has no [CLS]. Ours only reads its patches (`class_attention`), which then equal SigLIP's.
"""

from __future__ import annotations

from types import MappingProxyType

from momo.initialise.layouts import clip
from momo.initialise.layouts.layout import HALF, Needs, Shapes, WeightLayout, picture_needs
from momo.initialise.source import Source

DEFAULTS = MappingProxyType(
    {
        **clip.DEFAULTS,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "patch_size": 16,
    }
)


def needs(source: Source, shapes: Shapes | None) -> Needs:
    return picture_needs(clip.vision_config(source.config), DEFAULTS, class_attention=True)


LAYOUT = WeightLayout(
    "SigLIP's image half",
    ("siglip", "siglip_vision_model"),
    ("the image embedding without [CLS]", "the blocks", "the last norm"),
    needs,
    clip.BLOCKS,
    prefixes=("vision_model.", ""),
    ignored=("head.", "text_model.", "logit_", "embeddings.position_ids", "classifier."),
    statistics=HALF,
    notes=("SigLIP has no [CLS]: ours is new, and only reads the patches",),
)
