"""What a family's file says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from momo.initialise.source import Source

Shapes = Mapping[str, tuple[int, ...]]
Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and deviation of a picture's channels."""
IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF: Statistics = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

# Our names that are no parameter's: what `momo.initialise.fill` puts together.
CLS, POSITIONS = "image_embedding.cls", "image_embedding.positions"
PATCHES = "image_embedding.projection"
PARTS = ("q", "k", "v")  # of blocks.{}.attn

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_LEAVES = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


@dataclass(frozen=True)
class Needs:
    """The model that a source needs. `fields`: of ModelConfig, which must be equal; `hidden`: the
    width inside the MLP; `image_size` of the source; `most_words`: its text positions; `unknown`:
    what it does not say and is taken from the config."""

    fields: Mapping[str, Any]
    hidden: int | None = None
    image_size: int | None = None
    most_words: int | None = None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class WeightLayout:
    """`names`: theirs → ours, of modules (whose weight and bias follow) or of single tensors, `{}`
    the number of a block. `prefixes`: what may stand before them. `ignored`: beginnings of names
    that are left out. `gives`: the parts of the model, for people. `statistics`: how pictures were
    normalised, where no file says it. `needs`: from a source and the shapes of its tensors.
    """

    kind: str
    model_types: tuple[str, ...]
    gives: tuple[str, ...]
    needs: Callable[[Source, Shapes | None], Needs]
    names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    prefixes: tuple[str, ...] = ("",)
    ignored: tuple[str, ...] = ()
    statistics: Statistics | None = None
    notes: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether it is MoMo itself, all of which is taken under its own names."""
        return not self.names

    def ours(self, name: str) -> str | None:
        """Our name for a tensor of theirs; None: left out. Raises KeyError for an unknown one."""
        for prefix in self.prefixes:
            if not name.startswith(prefix):
                continue
            rest = name[len(prefix) :]
            if (found := self._known(rest)) is not None:
                return found
        if any(name.startswith(prefix + one) for prefix in self.prefixes for one in self.ignored):
            return None
        raise KeyError(name)

    def _known(self, name: str) -> str | None:
        number = _NUMBER.search(name)
        plain = name if number is None else _NUMBER.sub("{}", name, count=1)
        block = "" if number is None else number.group()
        if plain in self.names:
            return self.names[plain].replace("{}", block)
        module, _, leaf = plain.rpartition(".")
        if module in self.names and leaf in _LEAVES:
            return f"{self.names[module].replace('{}', block)}.{_LEAVES[leaf]}"
        return None


def square(name: str, value: Any) -> int:
    """A side from a config: a number, or two equal ones. Raises ValueError for others."""
    sides = {value} if isinstance(value, int) else set(value or ())
    if len(sides) != 1:
        raise ValueError(f"{name}={value}: MoMo takes square pictures and patches only")
    return int(sides.pop())


ACTIVATIONS: Mapping[str, str] = MappingProxyType(
    {
        "gelu": "gelu",
        "gelu_pytorch_tanh": "gelu_tanh",
        "gelu_new": "gelu_tanh",
        "gelu_tanh": "gelu_tanh",
        "quick_gelu": "quick_gelu",
        "quickgelu": "quick_gelu",
    }
)


def activation(value: Any) -> str:
    """Our name of an activation. Raises ValueError for one that MoMo does not have."""
    if value not in ACTIVATIONS:
        raise ValueError(f"its activation {value!r} is none of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[value]


def picture_needs(config: Mapping[str, Any], defaults: Mapping[str, Any], **more: Any) -> Needs:
    """From the config of a `transformers` picture encoder, which leaves its class's defaults out;
    `more`: further fields of ModelConfig."""
    known = {**defaults, **config}
    if known.get("num_channels", 3) != 3:
        raise ValueError(f"it takes pictures of {known['num_channels']} channels, MoMo those of 3")
    width = known["hidden_size"]
    hidden = known.get("intermediate_size") or int(width * known["mlp_ratio"])
    return Needs(
        {
            "width": width,
            "depth": known["num_hidden_layers"],
            "heads": known["num_attention_heads"],
            "patch_size": square("patch_size", known["patch_size"]),
            "activation": activation(known["hidden_act"]),
            "norm_eps": known["layer_norm_eps"],
            "image_norm": False,
            "class_attention": False,
            **more,
        },
        hidden=hidden,
        image_size=square("image_size", known["image_size"]),
    )
