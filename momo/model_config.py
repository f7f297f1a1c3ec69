"""The model's shape as a frozen dataclass. Imports no torch, and other parts of `momo` only where a
function needs them: exported folders carry this file (`momo.hf.code`)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, get_args

Activation = Literal["gelu", "gelu_tanh", "quick_gelu"]
"""GELU, its approximation by tanh, or x · sigmoid(1.702 x)."""


def absent_at(value: Any) -> Any:
    """A field that saved configs and fingerprints leave out while it has this default: models made
    before it existed stay the same."""
    return field(default=value, metadata={"absent_at": value})


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the encoder and of its heads. Defaults are the demo size.

    `max_text_length` is the number of learned text positions (tokens); `embed_dim` the width of
    the contrastive embeddings; the `decoder_*` fields shape the MAE pixel decoder.
    `tower_depth` 0 is MoMo: all layers shared. Above 0, for ablations, it is FLAVA's topology
    (arXiv 2112.04482): pictures and texts go through that many layers of their own, pairs through
    both towers and then through `depth` layers more. `linear_init`: how linear layers are drawn,
    Xavier uniform as in MAE, or normal of 0.02 as in BERT. `text_init`: how words and their
    positions are drawn, normal of 0.02 as in BERT, or `unit`, of 1, the size that patches with
    their positions have: what layers drawn by Xavier add is of that size too, and a token of 0.02
    without BERT's norm behind it is lost in it.

    The last fields are for starting from other people's weights, which `momo.initialise` checks.
    `activation` of the blocks' MLP and `norm_eps`, added to the variance by their norms: as the
    model was trained. `image_norm`: a norm behind the image embedding, as CLIP has one; `text_norm`
    behind the text embedding, as BERT (which adds 1e-12). `class_attention`: [CLS] reads the other
    tokens and none reads it (CaiT, arXiv 2103.17239), for encoders without [CLS], as SigLIP's.

    `extra_modalities`: what the model embeds beside pictures and texts (`momo.modalities`).
    """

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
    tower_depth: int = 0
    linear_init: Literal["xavier", "normal"] = "xavier"
    text_init: Literal["normal", "unit"] = absent_at("normal")
    activation: Activation = absent_at("gelu")
    norm_eps: float = absent_at(1e-6)
    image_norm: bool = absent_at(False)
    text_norm: bool = absent_at(False)
    class_attention: bool = absent_at(False)
    extra_modalities: tuple[str, ...] = absent_at(())

    def __post_init__(self) -> None:
        for name in ("depth", "vocab_size", "embed_dim", "decoder_depth", "max_text_length"):
            least = {"vocab_size": 8, "max_text_length": 3}.get(name, 1)
            if getattr(self, name) < least:
                raise ValueError(f"model.{name}={getattr(self, name)}: give at least {least}")
        if self.linear_init not in ("xavier", "normal"):
            raise ValueError(f"model.linear_init={self.linear_init!r}: give xavier or normal")
        if self.text_init not in ("normal", "unit"):
            raise ValueError(f"model.text_init={self.text_init!r}: give normal or unit")
        if self.activation not in get_args(Activation):
            known = ", ".join(get_args(Activation))
            raise ValueError(f"model.activation={self.activation!r}: give {known}")
        if not 0.0 <= self.norm_eps < 1.0:
            raise ValueError(f"model.norm_eps={self.norm_eps}: give 0 or more, as 1e-6")
        if self.tower_depth < 0:
            raise ValueError(f"model.tower_depth={self.tower_depth}: give 0 or more")
        if not 0.0 < self.mlp_ratio < math.inf:
            raise ValueError(f"model.mlp_ratio={self.mlp_ratio}: give a finite number above 0")
        for whole, part in (
            ("image_size", "patch_size"),
            ("width", "heads"),
            ("decoder_width", "decoder_heads"),
        ):
            a, b = getattr(self, whole), getattr(self, part)
            if b <= 0 or a <= 0 or a % b:
                raise ValueError(f"model.{whole}={a} must be a multiple of model.{part}={b}")
        for name in ("width", "decoder_width"):
            if getattr(self, name) % 4:
                raise ValueError(f"model.{name} must be a multiple of 4 (sine-cosine positions)")
        self._check_extra()

    def _check_extra(self) -> None:
        if not self.extra_modalities:
            return
        from momo.modalities import extras

        if unknown := [m for m in self.extra_modalities if m not in extras()]:
            raise ValueError(
                f"model.extra_modalities: unknown {unknown}; known: {list(extras())}, which "
                "_FILES of momo/modalities/__init__.py names"
            )
        if self.tower_depth:
            raise ValueError(
                f"model.extra_modalities={list(self.extra_modalities)} go through layers that all "
                "modalities share: set model.tower_depth to 0"
            )

    def check_has(self, modalities: Iterable[str]) -> None:
        """Raises ValueError that names what the model does not embed."""
        from momo.modalities import extras

        if lacking := [m for m in modalities if m in extras() and m not in self.extra_modalities]:
            raise ValueError(
                f"task.modalities has {', '.join(lacking)}, for which the model has no embedding: "
                f"set model.extra_modalities (--model.extra-modalities {' '.join(lacking)})"
            )

    def check_prefixes(self, lengths: Iterable[int]) -> None:
        """Raises ValueError for prefixes that are no part of a vector."""
        if wrong := [n for n in lengths if n >= self.embed_dim]:
            raise ValueError(
                f"task.contrastive_prefixes has {wrong}, and model.embed_dim={self.embed_dim}: the "
                "whole vectors count anyway; give shorter ones"
            )

    @property
    def num_patches(self) -> int:
        """Patches of one picture, without the [CLS] token."""
        return (self.image_size // self.patch_size) ** 2

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without fields that are left out at their default."""
        return {
            f.name: value
            for f in dataclasses.fields(self)
            if (value := getattr(self, f.name)) != f.metadata.get("absent_at", dataclasses.MISSING)
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Inverse of `to_dict`. Raises `ValueError` naming fields that do not exist."""
        known = {f.name for f in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown model field(s) {unknown}; known: {sorted(known)}")
        extra = tuple(values.get("extra_modalities", ()))  # of JSON, a list
        return cls(**{**values, "extra_modalities": extra})


def exported_shape(document: Mapping[str, Any]) -> ModelConfig | None:
    """The shape that an export's `config.json` has: ours, or the one that `momo.hf` writes for
    transformers; None of another model. Raises `ValueError` as `ModelConfig.from_dict`."""
    if "model" in document:
        return ModelConfig.from_dict(document["model"])
    if document.get("model_type") != "momo":
        return None
    names = [f.name for f in dataclasses.fields(ModelConfig) if f.name in document]
    return ModelConfig.from_dict({name: document[name] for name in names})


# Text positions of base and large follow BERT (512): with them the encoder and its embeddings
# have the parameter counts named for the paper, 109.6M and 335.1M.
_READS: dict[str, Any] = {"image_size": 224, "vocab_size": 30522, "max_text_length": 512}
_DECODER: dict[str, Any] = {"decoder_width": 512, "decoder_depth": 8, "decoder_heads": 16}
_SMALL: dict[str, Any] = {"decoder_width": 256, "decoder_depth": 4, "decoder_heads": 8}
SIZES: Mapping[str, ModelConfig] = MappingProxyType(
    {
        "demo": ModelConfig(),
        "small": ModelConfig(**_READS, **_SMALL, width=384, depth=12, heads=6, embed_dim=256),
        "base": ModelConfig(**_READS, **_DECODER, width=768, depth=12, heads=12, embed_dim=512),
        "large": ModelConfig(**_READS, **_DECODER, width=1024, depth=24, heads=16, embed_dim=768),
    }
)
