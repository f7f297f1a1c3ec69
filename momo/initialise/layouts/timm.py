"""Plain vision transformers in timm's layout, which MAE's and DINOv2's own checkpoints share.

Such a file says the shapes only. The number of heads, the activation and what norms add to the
variance come from timm's `config.json` beside it as far as that tells, else from the model's own
config, and then nobody can check them.
"""

from __future__ import annotations

import re
from types import MappingProxyType

from momo.initialise.layouts.layout import (
    CLS,
    IMAGENET,
    PATCHES,
    POSITIONS,
    Needs,
    Shapes,
    WeightLayout,
    activation,
)
from momo.initialise.source import Source, side_of

NAMES = MappingProxyType(
    {
        "cls_token": CLS,
        "pos_embed": POSITIONS,
        "patch_embed.proj": PATCHES,
        "norm_pre": "image_embedding.norm",
        "blocks.{}.norm1": "blocks.{}.norm1",
        "blocks.{}.attn.qkv": "blocks.{}.attn.qkv",
        "blocks.{}.attn.proj": "blocks.{}.attn.proj",
        "blocks.{}.ls1.gamma": "blocks.{}.attn.scale",
        "blocks.{}.norm2": "blocks.{}.norm2",
        "blocks.{}.mlp.fc1": "blocks.{}.mlp.fc1",
        "blocks.{}.mlp.fc2": "blocks.{}.mlp.fc2",
        "blocks.{}.ls2.gamma": "blocks.{}.mlp.scale",
        "norm": "norm",
    }
)
_BLOCK = re.compile(r"blocks\.(\d+)\.")


def needs(source: Source, shapes: Shapes | None) -> Needs:
    unknown = ["heads", "activation", "norm_eps"]
    fields: dict[str, object] = {}
    name = str(source.config.get("architecture", ""))
    given = source.config.get("model_args") or {}
    if "num_heads" in given:
        fields["heads"] = given["num_heads"]
    if "_clip_" in name:
        fields["norm_eps"] = 1e-5
        fields["activation"] = "quick_gelu" if "quickgelu" in name else "gelu"
    if "act_layer" in given:
        fields["activation"] = activation(given["act_layer"])
    hidden = image_size = None
    if shapes is not None:
        found, hidden, image_size = _from_shapes(shapes)
        fields |= found
    return Needs(
        fields,
        hidden=hidden,
        image_size=image_size,
        unknown=tuple(n for n in unknown if n not in fields),
    )


def _from_shapes(shapes: Shapes) -> tuple[dict[str, object], int | None, int | None]:
    """Fields, the MLP's inner width and the picture's size. Raises ValueError for what is no plain
    vision transformer."""
    patches = shapes.get("patch_embed.proj.weight")
    if patches is None or len(patches) != 4:
        raise ValueError("it has no patch_embed.proj.weight: not a vision transformer of timm")
    if any(name in shapes for name in ("reg_token", "register_tokens")):
        raise ValueError("it has register tokens, for which MoMo has no place")
    if "dist_token" in shapes:
        raise ValueError("it has a distillation token, for which MoMo has no place")
    if "norm.weight" not in shapes and "fc_norm.weight" in shapes:
        raise ValueError(
            "it norms the mean of its tokens instead of the tokens (fc_norm): give the weights "
            "from before that fine-tuning"
        )
    numbers = {int(m.group(1)) for name in shapes if (m := _BLOCK.match(name))}
    fields: dict[str, object] = {
        "width": patches[0],
        "depth": max(numbers, default=-1) + 1,
        "patch_size": patches[2],
        "image_norm": "norm_pre.weight" in shapes,
        "class_attention": "cls_token" not in shapes,
    }
    hidden = shapes.get("blocks.0.mlp.fc1.weight", (None,))[0]
    count = shapes.get("pos_embed", (0, 0))[1]
    side = side_of(count) or side_of(count - 1)
    return fields, hidden, None if side is None else side * patches[2]


LAYOUT = WeightLayout(
    "a ViT of timm",
    (),
    ("the image embedding", "the blocks", "the last norm"),
    needs,
    NAMES,
    ignored=("decoder_", "mask_token", "head.", "attn_pool.", "fc_norm."),
    statistics=IMAGENET,
)
