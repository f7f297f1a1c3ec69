"""The model's shape as a `transformers` configuration."""

from __future__ import annotations

import dataclasses
from typing import Any

from transformers import PretrainedConfig

from momo.model_config import ModelConfig


class MoMoConfig(PretrainedConfig):
    """The fields of `ModelConfig` under their own names, `text_length` and `origin`.

    `text_length` is what processors cut texts to, in tokens; None: `max_text_length`. `origin`:
    what the training started from, as exports have it. The names
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

    image_size: int = ModelConfig.image_size
    patch_size: int = ModelConfig.patch_size
    vocab_size: int = ModelConfig.vocab_size
    width: int = ModelConfig.width
    depth: int = ModelConfig.depth
    heads: int = ModelConfig.heads
    mlp_ratio: float = ModelConfig.mlp_ratio
    max_text_length: int = ModelConfig.max_text_length
    decoder_width: int = ModelConfig.decoder_width
    decoder_depth: int = ModelConfig.decoder_depth
    decoder_heads: int = ModelConfig.decoder_heads
    embed_dim: int = ModelConfig.embed_dim
    tower_depth: int = ModelConfig.tower_depth
    linear_init: str = ModelConfig.linear_init
    text_init: str = ModelConfig.text_init
    activation: str = ModelConfig.activation
    norm_eps: float = ModelConfig.norm_eps
    image_norm: bool = ModelConfig.image_norm
    text_norm: bool = ModelConfig.text_norm
    class_attention: bool = ModelConfig.class_attention
    text_length: int | None = None
    origin: list | None = None
    pad_token_id: int | None = 0

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.to_model_config()

    def to_model_config(self) -> ModelConfig:
        """The same shape for `momo.model.MoMo`."""
        names = [f.name for f in dataclasses.fields(ModelConfig) if hasattr(self, f.name)]
        return ModelConfig(**{name: getattr(self, name) for name in names})

    @classmethod
    def from_model_config(
        cls,
        config: ModelConfig,
        text_length: int | None = None,
        origin: list[dict[str, Any]] | None = None,
    ) -> MoMoConfig:
        """Inverse of `to_model_config`. Raises ValueError for a model of further modalities."""
        if config.extra_modalities:
            raise ValueError(
                f"the model also takes {', '.join(config.extra_modalities)}, for which there is no "
                "form in transformers: use it by momo.load"
            )
        return cls(**config.to_dict(), text_length=text_length, origin=origin)
