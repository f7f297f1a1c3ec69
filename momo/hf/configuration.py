"""The model's shape as a `transformers` configuration."""

from __future__ import annotations

import dataclasses
from typing import Any

from transformers import PretrainedConfig

from momo.config import ModelConfig


class MoMoConfig(PretrainedConfig):
    """The fields of `momo.config.ModelConfig` under their own names, and `text_length`.

    `text_length` is what processors cut texts to, in tokens; None: `max_text_length`. The names
    common in `transformers` (`hidden_size` and so on) are aliases. Raises ValueError for a shape
    that `ModelConfig` refuses.
    """

    model_type = "momo"
    attribute_map = {  # noqa: RUF012 - read by transformers
        "hidden_size": "width",
        "num_hidden_layers": "depth",
        "num_attention_heads": "heads",
        "max_position_embeddings": "max_text_length",
        "projection_dim": "embed_dim",
    }

    image_size: int = 64
    patch_size: int = 16
    vocab_size: int = 4096
    width: int = 128
    depth: int = 4
    heads: int = 4
    mlp_ratio: float = 4.0
    max_text_length: int = 64
    decoder_width: int = 64
    decoder_depth: int = 1
    decoder_heads: int = 4
    embed_dim: int = 128
    text_length: int | None = None
    pad_token_id: int | None = 0

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.to_model_config()

    def to_model_config(self) -> ModelConfig:
        """The same shape for `momo.model.MoMo`."""
        names = [f.name for f in dataclasses.fields(ModelConfig)]
        return ModelConfig(**{name: getattr(self, name) for name in names})

    @classmethod
    def from_model_config(cls, config: ModelConfig, text_length: int | None = None) -> MoMoConfig:
        """Inverse of `to_model_config`."""
        return cls(**config.to_dict(), text_length=text_length)
