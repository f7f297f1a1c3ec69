"""What a batch costs in training: tokens and floating-point operations, from its shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from momo.config import ModelConfig, TaskConfig
from momo.masking import trim_padding


@dataclass(frozen=True)
class EncoderPass:
    """`rows` sequences of `length` tokens through the encoder, with what its heads then do.

    `words`: masked words predicted; `decoded`: sequences through the pixel decoder, each of
    `decoded_length` tokens.
    """

    rows: int
    length: int
    words: float = 0.0
    decoded: int = 0
    decoded_length: int = 0


def encoder_passes(
    config: TaskConfig, modality: str, batch: Mapping[str, Tensor]
) -> list[EncoderPass]:
    """The passes of one forward. Masked words are counted from the ratio."""
    rows = len(next(iter(batch.values())))
    if modality == "image":
        patches = batch["noise"].shape[1]
        kept = round(patches * (1.0 - config.image_mask_ratio))
        return [EncoderPass(rows, 1 + kept, decoded=rows, decoded_length=1 + patches)]
    length = trim_padding(batch["ids"])
    if modality == "text":
        return [EncoderPass(rows, length, words=rows * length * config.text_mask_ratio)]
    patches = batch["noise_image"].shape[1]
    objectives = config.objectives
    passes = []
    if "contrastive" in objectives:
        passes = [EncoderPass(rows, 1 + patches), EncoderPass(rows, length)]
    if objectives.keys() & {"matching", "pair_mlm", "pair_mim"}:
        kept = round(patches * (1.0 - config.pair_image_mask_ratio))
        false = round(rows * config.matching_fraction) if "matching" in objectives else 0
        words = rows * length * config.pair_text_mask_ratio if "pair_mlm" in objectives else 0.0
        decoded = rows if "pair_mim" in objectives else 0
        passes.append(EncoderPass(rows + false, 1 + kept + length, words, decoded, 1 + patches))
    return passes


def _transformer_flops(tokens: int, length: int, width: int, depth: int, ratio: float) -> float:
    """Forward: two a weight and token, and the two products of attention."""
    weights = (4 + 2 * ratio) * width**2
    return depth * tokens * (2 * weights + 4 * length * width)


def training_flops(config: ModelConfig, passes: Sequence[EncoderPass]) -> float:
    """Forward and backward (twice the forward); what checkpointing computes again is not counted.

    Counted are the products in blocks and in the word head; the other heads are small.
    """
    total = 0.0
    for one in passes:
        tokens = one.rows * one.length
        total += _transformer_flops(
            tokens, one.length, config.width, config.depth, config.mlp_ratio
        )
        total += 2 * one.words * (config.width**2 + config.width * config.vocab_size)
        total += _transformer_flops(
            one.decoded * one.decoded_length,
            one.decoded_length,
            config.decoder_width,
            config.decoder_depth,
            config.mlp_ratio,
        )
    return 3 * total
