"""The image half of CLIP (arXiv 2103.00020) as `transformers` saves it.

CLIP norms its last [CLS] only; here all tokens are, so that [CLS] equals its pooled output.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from momo.initialise.layouts.layout import (
    CLS,
    PATCHES,
    POSITIONS,
    Needs,
    Shapes,
    WeightLayout,
    picture_needs,
)
from momo.initialise.source import Source

BLOCKS = MappingProxyType(
    {
        "encoder.layers.{}.layer_norm1": "blocks.{}.norm1",
        "encoder.layers.{}.self_attn.q_proj": "blocks.{}.attn.q",
        "encoder.layers.{}.self_attn.k_proj": "blocks.{}.attn.k",
        "encoder.layers.{}.self_attn.v_proj": "blocks.{}.attn.v",
        "encoder.layers.{}.self_attn.out_proj": "blocks.{}.attn.proj",
        "encoder.layers.{}.layer_norm2": "blocks.{}.norm2",
        "encoder.layers.{}.mlp.fc1": "blocks.{}.mlp.fc1",
        "encoder.layers.{}.mlp.fc2": "blocks.{}.mlp.fc2",
        "post_layernorm": "norm",
        "embeddings.patch_embedding": PATCHES,
        "embeddings.position_embedding.weight": POSITIONS,
    }
)
DEFAULTS = MappingProxyType(
    {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "image_size": 224,
        "patch_size": 32,
    }
)


def vision_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of the image half: its own config, or the part of a whole model's."""
    return config.get("vision_config") or config


def needs(source: Source, shapes: Shapes | None) -> Needs:
    return picture_needs(vision_config(source.config), DEFAULTS, image_norm=True)


LAYOUT = WeightLayout(
    "CLIP's image half",
    ("clip", "clip_vision_model"),
    ("the image embedding with its norm", "the blocks", "the last norm"),
    needs,
    MappingProxyType(
        {**BLOCKS, "embeddings.class_embedding": CLS, "pre_layrnorm": "image_embedding.norm"}
    ),
    prefixes=("vision_model.", ""),
    ignored=(
        *("text_model.", "visual_projection.", "text_projection.", "logit_scale"),
        *("embeddings.position_ids", "classifier."),
    ),
    statistics=((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
)
