"""DINOv2 (arXiv 2304.07193) as `transformers` saves it; LayerScale is folded into the weights."""

from __future__ import annotations

from types import MappingProxyType

from momo.initialise.layouts import vit
from momo.initialise.layouts.layout import IMAGENET, Needs, Shapes, WeightLayout, picture_needs
from momo.initialise.source import Source

NAMES = MappingProxyType(
    {name: ours for name, ours in vit.NAMES.items() if "attention" in name or "encoder" not in name}
    | {
        "encoder.layer.{}.norm1": "blocks.{}.norm1",
        "encoder.layer.{}.layer_scale1.lambda1": "blocks.{}.attn.scale",
        "encoder.layer.{}.norm2": "blocks.{}.norm2",
        "encoder.layer.{}.mlp.fc1": "blocks.{}.mlp.fc1",
        "encoder.layer.{}.mlp.fc2": "blocks.{}.mlp.fc2",
        "encoder.layer.{}.layer_scale2.lambda1": "blocks.{}.mlp.scale",
    }
)
DEFAULTS = MappingProxyType(
    {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "mlp_ratio": 4,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "image_size": 224,
        "patch_size": 14,
        "use_swiglu_ffn": False,
    }
)


def needs(source: Source, shapes: Shapes | None) -> Needs:
    config = {**DEFAULTS, **source.config}
    if config["use_swiglu_ffn"]:
        raise ValueError("its blocks have SwiGLU, MoMo's have two layers with GELU between")
    return picture_needs(source.config, DEFAULTS)


LAYOUT = WeightLayout(
    "DINOv2",
    ("dinov2",),
    vit.LAYOUT.gives,
    needs,
    NAMES,
    prefixes=("", "dinov2."),
    ignored=("classifier.", "embeddings.mask_token"),
    statistics=IMAGENET,
)
