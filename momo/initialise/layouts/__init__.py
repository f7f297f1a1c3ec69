"""One file for each family of models: its tensors' names, and the shape of model they need."""

from __future__ import annotations

from collections.abc import Mapping

from momo.initialise.layouts import bert, clip, dinov2, momo, siglip, timm, vit
from momo.initialise.layouts.layout import Needs, WeightLayout
from momo.initialise.source import Source

__all__ = ["Needs", "WeightLayout", "layout_of"]

_BY_TYPE: Mapping[str, WeightLayout] = {
    model_type: layout
    for layout in (
        *(vit.LAYOUT, vit.MAE, dinov2.LAYOUT, clip.LAYOUT, siglip.LAYOUT, bert.LAYOUT),
        momo.TRANSFORMERS,
    )
    for model_type in layout.model_types
}
_NEAR = {
    "dinov2_with_registers": "it has register tokens, for which MoMo has no place",
    "distilbert": "of text models only BERT's words are read",
    "roberta": "of text models only BERT's words are read",
    "deit": "it may have a distillation token; its plain encoders are read from timm's files",
}


def layout_of(source: Source) -> WeightLayout:
    """By the source's config, else timm's. Raises ValueError for a model of another kind."""
    config = source.config
    if isinstance(config.get("model"), Mapping):
        return momo.LAYOUT
    model_type = config.get("model_type")
    if model_type is None:
        return timm.LAYOUT
    if model_type in _BY_TYPE:
        return _BY_TYPE[model_type]
    reason = f": {_NEAR[model_type]}" if model_type in _NEAR else ""
    raise ValueError(
        f"{source.name}: don't know how to start from a {model_type} model{reason}; give an export "
        f"of MoMo, a transformers model of type {', '.join(_BY_TYPE)}, or a ViT of timm"
    )
