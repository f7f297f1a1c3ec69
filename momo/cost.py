"""What a batch costs in training: tokens, floating-point operations and memory, from its shapes.

No torch: plans import this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from momo.config import JOINT_OBJECTIVES, ModelConfig, TaskConfig

if TYPE_CHECKING:
    from torch import Tensor

Checkpointing = Literal["none", "elementwise", "blocks"]


@dataclass(frozen=True)
class EncoderPass:
    """`rows` sequences of `length` tokens through the encoder, with what its heads then do.

    `words`: masked words predicted; `decoded`: sequences through the pixel decoder, each of
    `decoded_length` tokens. `cached`: embeds for the contrastive loss, so that gradient caching
    applies. `image_length`: of a pair, how many of the tokens are the picture's.
    """

    rows: int
    length: int
    words: float = 0.0
    decoded: int = 0
    decoded_length: int = 0
    cached: bool = False
    image_length: int = 0

    def layers(self, config: ModelConfig) -> list[tuple[int, int]]:
        """(blocks, length of their sequences) that the tokens go through, one after another or,
        for a pair in towers, side by side."""
        if not config.tower_depth:
            return [(config.depth, self.length)]
        if not self.image_length:
            return [(config.tower_depth, self.length)]
        own = [self.image_length, self.length - self.image_length]
        return [*((config.tower_depth, length) for length in own), (config.depth, self.length)]


def encoder_passes(
    config: TaskConfig, modality: str, batch: Mapping[str, Tensor]
) -> list[EncoderPass]:
    """The passes of one forward of `batch`. Masked words are counted from the ratio."""
    from momo.masking import trim_padding

    rows = len(next(iter(batch.values())))
    length = trim_padding(batch["ids"]) if "ids" in batch else 0
    noise = batch.get("noise_image", batch["noise"] if modality == "image" else None)
    return passes_of(config, modality, rows, length, 0 if noise is None else noise.shape[1])


def passes_of(
    config: TaskConfig, modality: str, rows: int, length: int, patches: int
) -> list[EncoderPass]:
    """The passes of one forward of `rows` samples: texts of `length`, pictures of `patches`."""
    if modality == "image":
        kept = round(patches * (1.0 - config.image_mask_ratio))
        return [EncoderPass(rows, 1 + kept, decoded=rows, decoded_length=1 + patches)]
    if modality == "text":
        return [EncoderPass(rows, length, words=rows * length * config.text_mask_ratio)]
    objectives = config.objectives
    passes = []
    if "contrastive" in objectives:
        passes = [
            EncoderPass(rows, 1 + patches, cached=True),
            EncoderPass(rows, length, cached=True),
        ]
    if objectives.keys() & JOINT_OBJECTIVES:
        kept = 1 + round(patches * (1.0 - config.pair_image_mask_ratio))
        false = round(rows * config.matching_fraction) if "matching" in objectives else 0
        words = rows * length * config.pair_text_mask_ratio if "pair_mlm" in objectives else 0.0
        decoded = rows if "pair_mim" in objectives else 0
        if config.shared_passes:
            one = EncoderPass(
                *(rows + false, kept + length, words, decoded, 1 + patches), image_length=kept
            )
            return [*passes, one]
        if "matching" in objectives:
            joint = 1 + patches + length
            passes.append(EncoderPass(rows + false, joint, image_length=1 + patches))
        if "pair_mlm" in objectives:
            joint = 1 + patches + length
            passes.append(EncoderPass(rows, joint, words, image_length=1 + patches))
        if "pair_mim" in objectives:
            sizes = (rows, kept + length, 0.0, decoded, 1 + patches)
            passes.append(EncoderPass(*sizes, image_length=kept))
    return passes


def _transformer_flops(tokens: int, length: int, width: int, depth: int, ratio: float) -> float:
    """Forward: two a weight and token, and the two products of attention."""
    weights = (4 + 2 * ratio) * width**2
    return depth * tokens * (2 * weights + 4 * length * width)


def training_flops(config: ModelConfig, passes: Sequence[EncoderPass]) -> float:
    """Forward and backward (twice the forward); what checkpointing computes again is not counted.

    Counted are the products in blocks and in the word head; the other heads are small. What the
    last blocks of decoder and joint pass leave out (below 2 %) is counted too.
    """
    total = 0.0
    for one in passes:
        for depth, length in one.layers(config):
            total += _transformer_flops(
                one.rows * length, length, config.width, depth, config.mlp_ratio
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


def _block_parameters(width: int, ratio: float) -> int:
    return int((4 + 2 * ratio) * width**2 + (9 + ratio) * width)


def parameter_counts(config: ModelConfig) -> dict[str, int]:
    """Parameters by the part of the model they belong to, as `momo.model.MoMo` has them."""
    width, inner = config.width, config.decoder_width
    values, positions = 3 * config.patch_size**2, 1 + config.num_patches
    a_block = _block_parameters(width, config.mlp_ratio)
    tower = config.tower_depth * a_block + 2 * width if config.tower_depth else 0
    return {
        "blocks": config.depth * a_block + 2 * width,
        "image_tower": tower,
        "text_tower": tower,
        "image_embedding": (values + 3 + positions) * width,
        "text_embedding": (config.vocab_size + config.max_text_length + 1) * width,
        "pixel_decoder": (width + 4 + positions) * inner
        + config.decoder_depth * _block_parameters(inner, config.mlp_ratio)
        + (inner + 1) * values,
        "word_head": (width + 3) * width + config.vocab_size,
        "contrastive": 2 * width * config.embed_dim + 1,
        "matching": (width + 2) * width + 1,
    }


def trained_parameters(config: ModelConfig, task: TaskConfig) -> int:
    """Parameters that a stage trains; the rest is frozen and has no gradient or moments."""
    counts, modalities, objectives = parameter_counts(config), task.modalities, task.objectives
    joint = bool(objectives.keys() & JOINT_OBJECTIVES)
    used = {
        "blocks": joint or not config.tower_depth,
        "image_tower": "image" in modalities or "pair" in modalities,
        "text_tower": "text" in modalities or "pair" in modalities,
        "image_embedding": "image" in modalities or "pair" in modalities,
        "text_embedding": "text" in modalities or "pair" in modalities,
        "pixel_decoder": "mim" in objectives or "pair_mim" in objectives,
        "word_head": "mlm" in objectives or "pair_mlm" in objectives,
        "contrastive": "contrastive" in objectives,
        "matching": "matching" in objectives,
    }
    return sum(counts[part] for part, needed in used.items() if needed)


def _kept_by_block(width: int, ratio: float, *, half: bool, elementwise: bool = False) -> float:
    """Bytes a token that a block keeps for its backward pass.

    Both norms' inputs and outputs, q, k, v, attention's output twice (once laid out for the
    projection), and the MLP's activation before and after GELU. Under bf16 autocast all but the
    norms' inputs are bf16. `elementwise`: norms' outputs and GELU's are made again.
    """
    inputs, others = 2 * width, (2 + 3 + 2 + 2 * ratio) * width
    if elementwise:
        others = (3 + 2 + ratio) * width
    return 4 * inputs + (2 if half else 4) * others


def activation_bytes(
    config: ModelConfig,
    passes: Sequence[EncoderPass],
    *,
    half: bool = False,
    checkpointing: Checkpointing = "none",
    chunk: int = 0,
) -> float:
    """Bytes that a forward of `passes` keeps for its backward, both at their largest.

    `half`: bf16 autocast; `checkpointing`: what is computed twice, `blocks` (the encoder's keep
    their inputs only) or `elementwise`; `chunk`: rows at a time of gradient caching, 0 for none.
    Attention keeps no matrix of scores.
    """
    encoder, decoder = (
        _kept_by_block(
            width, config.mlp_ratio, half=half, elementwise=checkpointing == "elementwise"
        )
        for width in (config.width, config.decoder_width)
    )
    kept, again = encoder, 0.0  # of a block; of one that is computed again
    if checkpointing == "blocks":
        kept, again = 4.0 * config.width, encoder
    total = one_chunk = 0.0
    for one in passes:
        if one.cached and chunk:  # pictures and texts of a chunk go through the blocks together
            rows = min(chunk, one.rows)
            part = replace(one, rows=rows, cached=False)
            one_chunk += activation_bytes(config, [part], half=half, checkpointing=checkpointing)
            continue
        tokens = one.rows * one.length
        total += one.rows * sum(n * length * kept for n, length in one.layers(config))
        total += tokens * (again + 4 * 2 * config.width)
        # Logits, their logarithms and their gradient.
        total += one.words * config.vocab_size * (4 + 4 + 4 + (2 if half else 0))
        total += one.decoded * one.decoded_length * config.decoder_depth * decoder
    return total + one_chunk


def state_bytes(parameters: int, *, shards: int = 1, ema: bool = False) -> float:
    """Bytes of weights, gradients and AdamW's two moments in fp32, over `shards` devices.

    `ema`: averaged weights. DDP's gradients are views of its buckets and count once.
    """
    per_parameter = 4 + 4 + 8 + (4 if ema else 0)
    return parameters * per_parameter / shards
