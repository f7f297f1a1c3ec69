"""BERT's words (arXiv 1810.04805): its vocabulary, their embeddings and positions, and the norm
behind. Its blocks norm after each residual, ours before: they don't fit and are left out."""

from __future__ import annotations

from types import MappingProxyType

from momo.initialise.layouts.layout import Needs, Shapes, WeightLayout
from momo.initialise.source import Source

WORDS, TYPES = "text_embedding.words.weight", "text_embedding.modality"
NAMES = MappingProxyType(
    {
        "embeddings.word_embeddings": "text_embedding.words",
        "embeddings.position_embeddings.weight": "text_embedding.positions",
        "embeddings.token_type_embeddings.weight": TYPES,
        "embeddings.LayerNorm": "text_embedding.norm",
    }
)
DEFAULTS = MappingProxyType(
    {
        "vocab_size": 30522,
        "hidden_size": 768,
        "max_position_embeddings": 512,
        "layer_norm_eps": 1e-12,
        "position_embedding_type": "absolute",
    }
)


def needs(source: Source, shapes: Shapes | None) -> Needs:
    config = {**DEFAULTS, **source.config}
    if config["position_embedding_type"] != "absolute":
        raise ValueError("its positions are relative, MoMo's are absolute")
    if config["layer_norm_eps"] != 1e-12:
        raise ValueError(
            f"its norm adds {config['layer_norm_eps']}, MoMo's text_norm 1e-12 as BERT"
        )
    fields = {
        "width": config["hidden_size"],
        "vocab_size": config["vocab_size"],
        "text_norm": True,
    }
    return Needs(fields, most_words=config["max_position_embeddings"])


LAYOUT = WeightLayout(
    "BERT's words",
    ("bert",),
    ("the text embedding with its norm",),
    needs,
    NAMES,
    prefixes=("", "bert."),
    ignored=(
        "encoder.",
        "pooler.",
        "cls.",
        "classifier.",
        "qa_outputs.",
        "embeddings.position_ids",
    ),
    notes=("BERT's blocks norm after each residual and don't fit: the model's own stay random",),
)
