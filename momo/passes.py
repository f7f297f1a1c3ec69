"""Passes through the encoder: those that objectives read, and what each of them takes. No torch.

Of `momo.config` types only: it asks the objectives, and those name their passes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from momo.config import ModelConfig, TaskConfig


@dataclass(frozen=True)
class EncoderPass:
    """`rows` sequences of `length` tokens through the encoder, with what its heads then do. Of the
    false pairs there may be a part of a row.

    `words`: masked words predicted; `decoded`: sequences through the pixel decoder, each of
    `decoded_length` tokens. `cached`: embeds for the contrastive loss, so that gradient caching
    applies. `image_length`: of a pair, how many of the tokens are the picture's; `false`: how many
    of the rows are false pairs, whose parts went through the towers with the true ones. `unread`:
    tokens that the encoder's last block does not make, since no head reads them, and `undecoded`
    those that the decoder's does not.
    """

    rows: float
    length: int
    words: float = 0.0
    decoded: int = 0
    decoded_length: int = 0
    cached: bool = False
    image_length: int = 0
    false: float = 0.0
    unread: float = 0.0
    undecoded: float = 0.0

    def layers(self, config: ModelConfig) -> list[tuple[int, float, int]]:
        """(blocks, sequences, their length) that the tokens go through, one after another or, for
        a pair in towers, side by side."""
        if not config.tower_depth:
            return [(config.depth, self.rows, self.length)]
        if not self.image_length:
            return [(config.tower_depth, self.rows, self.length)]
        true, text = self.rows - self.false, self.length - self.image_length
        return [
            *((config.tower_depth, true, length) for length in (self.image_length, text)),
            (config.depth, self.rows, self.length),
        ]


@dataclass(frozen=True)
class Shape:
    """`rows` samples, whose texts have `length` tokens and whose pictures have `patches`; 0 where
    there are none. What is neither has `length` tokens."""

    rows: int
    length: int
    patches: int


@dataclass(frozen=True)
class View:
    """What an objective reads of a pass, or all objectives together that share it.

    `words`: the tokens of masked words. `patches`: those of the patches that are left, for the
    pixel decoder. `false_pairs`: [CLS] of true and of false pairs.
    """

    parts: ClassVar[tuple[str, ...]]
    """What the pass goes through: names of `momo.cost.parameter_counts`."""
    words: bool = False
    patches: bool = False
    false_pairs: bool = False

    def __or__(self, other: Self) -> Self:
        names = [f.name for f in fields(self)]
        return replace(self, **{n: getattr(self, n) or getattr(other, n) for n in names})

    def is_shared(self, config: TaskConfig) -> bool:
        """Whether one pass serves all objectives that read such a one."""
        return True

    def passes(self, config: TaskConfig, shape: Shape) -> list[EncoderPass]:
        """What it takes for a batch."""
        raise NotImplementedError


class MaskedImage(View):
    """`ImageViews.tokens`: pictures alone, those patches that masking leaves."""

    parts = ("image_embedding", "image_tower")

    def passes(self, config: TaskConfig, shape: Shape) -> list[EncoderPass]:
        kept = 1 + round(shape.patches * (1.0 - config.image_mask_ratio))
        decoded = shape.rows if self.patches else 0
        sizes = (shape.rows, kept, 0.0, decoded, 1 + shape.patches)
        return [EncoderPass(*sizes, undecoded=decoded * kept)]


class MaskedText(View):
    """`TextViews.tokens`: texts alone, some words masked."""

    parts = ("text_embedding", "text_tower")

    def passes(self, config: TaskConfig, shape: Shape) -> list[EncoderPass]:
        words = shape.rows * shape.length * config.text_mask_ratio if self.words else 0.0
        return [EncoderPass(shape.rows, shape.length, words=words)]


class Apart(View):
    """`PairViews.embeddings`: the picture and the text of a pair, each alone and whole."""

    parts = (*MaskedImage.parts, *MaskedText.parts)

    def passes(self, config: TaskConfig, shape: Shape) -> list[EncoderPass]:
        lengths = (1 + shape.patches, shape.length)
        return [EncoderPass(shape.rows, length, cached=True) for length in lengths]


class Joint(View):
    """`PairViews.joint`: a pair as one sequence. Where it is shared, both parts are masked; else
    the text for `words` and the picture for `patches` only."""

    parts = (*Apart.parts, "blocks")

    def is_shared(self, config: TaskConfig) -> bool:
        return config.shared_passes

    def passes(self, config: TaskConfig, shape: Shape) -> list[EncoderPass]:
        rows, length, kept = shape.rows, shape.length, 1 + shape.patches
        if config.shared_passes or self.patches:
            kept = 1 + round(shape.patches * (1.0 - config.pair_image_mask_ratio))
        false = rows * config.matching_fraction if self.false_pairs else 0.0
        words = rows * length * config.pair_text_mask_ratio if self.words else 0.0
        decoded = rows if self.patches else 0
        read = words + decoded * kept + (0 if decoded else rows) + false
        one = EncoderPass(
            *(rows + false, kept + length, words, decoded, 1 + shape.patches),
            image_length=kept,
            false=false,
            unread=(rows + false) * (kept + length) - read,
            undecoded=decoded * kept,
        )
        return [one]
