"""What FLAVA is made of and trained with, as frozen dataclasses. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from momo_platform.training.config import TrainConfig


@dataclass(frozen=True)
class FlavaShape:
    """Image and text encoder of `depth` layers each, `multimodal_depth` layers above both (the
    published model: 12, 12 and 6), all of `width`; `codebook_size` visual words."""

    image_size: int = 64
    patch_size: int = 16
    vocab_size: int = 4096
    width: int = 128
    depth: int = 4
    multimodal_depth: int = 2
    heads: int = 4
    max_text_length: int = 64
    embed_dim: int = 128
    codebook_size: int = 512

    @property
    def num_patches(self) -> int:
        """Patches of one picture."""
        return (self.image_size // self.patch_size) ** 2

    def to_transformers(self) -> dict[str, Any]:
        """Arguments of `transformers.FlavaConfig`; no dropout, as in MoMo's training."""
        common = {
            "hidden_size": self.width,
            "num_attention_heads": self.heads,
            "intermediate_size": 4 * self.width,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }
        image = {"image_size": self.image_size, "patch_size": self.patch_size, "mask_token": True}
        text = {"max_position_embeddings": self.max_text_length, "pad_token_id": 0}
        return {
            "image_config": {
                **common,
                **image,
                "num_hidden_layers": self.depth,
                "vocab_size": self.codebook_size,
            },
            "text_config": {
                **common,
                **text,
                "num_hidden_layers": self.depth,
                "vocab_size": self.vocab_size,
            },
            "multimodal_config": {**common, "num_hidden_layers": self.multimodal_depth},
            "hidden_size": self.width,
            "projection_dim": self.embed_dim,
            "init_codebook": False,
        }


@dataclass(frozen=True)
class CodebookConfig:
    """Visual words: `size` centres of k-means over patches of training pictures, normalised as
    MoMo's targets are."""

    size: int = 512
    image_size: int = 64
    patch_size: int = 16
    pictures: int = 4000
    seed: int = 0


@dataclass(frozen=True)
class FlavaRecipe:
    """One training stage. Masking as published: 40 % of the patches, 15 % of the words; one pair
    in ten (`itm_ratio`) gets another's text and is learned as false."""

    shape: FlavaShape
    modalities: tuple[str, ...]
    train: TrainConfig
    pair_text_length: int
    image_mask_ratio: float = 0.4
    text_mask_ratio: float = 0.15
    itm_ratio: float = 0.1
