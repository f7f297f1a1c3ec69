"""ViT (arXiv 2010.11929) and MAE's encoder (arXiv 2111.06377) as `transformers` saves them."""

from __future__ import annotations

from types import MappingProxyType

from momo.initialise.layouts.layout import (
    CLS,
    HALF,
    IMAGENET,
    PATCHES,
    POSITIONS,
    Needs,
    Shapes,
    WeightLayout,
    picture_needs,
)
from momo.initialise.source import Source

NAMES = MappingProxyType(
    {
        "embeddings.cls_token": CLS,
        "embeddings.position_embeddings": POSITIONS,
        "embeddings.patch_embeddings.projection": PATCHES,
        "encoder.layer.{}.layernorm_before": "blocks.{}.norm1",
        "encoder.layer.{}.attention.attention.query": "blocks.{}.attn.q",
        "encoder.layer.{}.attention.attention.key": "blocks.{}.attn.k",
        "encoder.layer.{}.attention.attention.value": "blocks.{}.attn.v",
        "encoder.layer.{}.attention.output.dense": "blocks.{}.attn.proj",
        "encoder.layer.{}.layernorm_after": "blocks.{}.norm2",
        "encoder.layer.{}.intermediate.dense": "blocks.{}.mlp.fc1",
        "encoder.layer.{}.output.dense": "blocks.{}.mlp.fc2",
        "layernorm": "norm",
    }
)
DEFAULTS = MappingProxyType(
    {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "image_size": 224,
        "patch_size": 16,
    }
)


def needs(source: Source, shapes: Shapes | None) -> Needs:
    return picture_needs(source.config, DEFAULTS)


LAYOUT = WeightLayout(
    "ViT",
    ("vit",),
    ("the image embedding", "the blocks", "the last norm"),
    needs,
    NAMES,
    prefixes=("", "vit."),
    ignored=("pooler.", "classifier.", "decoder.", "embeddings.mask_token"),
    statistics=HALF,
)
MAE = WeightLayout(
    "MAE's encoder",
    ("vit_mae",),
    LAYOUT.gives,
    needs,
    NAMES,
    prefixes=("", "vit."),
    ignored=("decoder.", "classifier."),
    statistics=IMAGENET,
)
