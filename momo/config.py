"""Sizes of the model. No torch: presets and `--help` import this file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelConfig:
    """The shared encoder and its heads.

    The body follows ViT (pre-norm blocks, `[CLS]`), the embeddings BERT; `base` and `large` are
    our reading of the paper's parameter counts, see docs/paper.md.
    """

    image_size: int = 64
    patch_size: int = 16
    vocab_size: int = 4096
    width: int = 128
    depth: int = 4
    heads: int = 4
    mlp_ratio: float = 4.0
    max_text_length: int = 64
    decoder_width: int = 96
    decoder_depth: int = 1
    decoder_heads: int = 4
    embed_dim: int = 128

    def __post_init__(self) -> None:
        for small, large in (("patch_size", "image_size"), ("heads", "width")):
            if getattr(self, large) % getattr(self, small):
                raise ValueError(
                    f"model.{large}={getattr(self, large)} must be a multiple of "
                    f"model.{small}={getattr(self, small)}"
                )

    @property
    def num_patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    @property
    def patch_values(self) -> int:
        """Numbers in one patch, three channels."""
        return 3 * self.patch_size**2


def demo() -> ModelConfig:
    """About 1.5M parameters: learns the demo corpora in minutes on two CPU cores."""
    return ModelConfig()


def small() -> ModelConfig:
    """About 34M parameters."""
    return ModelConfig(224, 16, 30522, 384, 12, 6, 4.0, 128, 256, 4, 8, 256)


def base() -> ModelConfig:
    """110M parameters in the encoder with its embeddings (ViT-B/16, BERT-uncased vocabulary)."""
    return ModelConfig(224, 16, 30522, 768, 12, 12, 4.0, 128, 512, 8, 16, 256)


def large() -> ModelConfig:
    """335M parameters in the encoder with its embeddings (ViT-L/16, BERT-uncased vocabulary)."""
    return ModelConfig(224, 16, 30522, 1024, 24, 16, 4.0, 128, 512, 8, 16, 256)


SIZES = {"demo": demo, "small": small, "base": base, "large": large}
