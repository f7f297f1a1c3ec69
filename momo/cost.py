"""What a batch costs in training: tokens, floating-point operations and memory, from its shapes.

No torch: plans import this file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from momo.config import JOINT_OBJECTIVES, ModelConfig, TaskConfig

Checkpointing = Literal["none", "elementwise", "blocks"]


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


def encoder_passes(
    config: TaskConfig, modality: str, batch: Mapping[str, Any]
) -> list[EncoderPass]:
    """The passes of one forward of `batch`, without padding: those of texts by their lengths.
    Masked words are counted from the ratio, false pairs as if they had the texts of the true."""
    noise = batch.get("noise_image", batch["noise"] if modality == "image" else None)
    patches = 0 if noise is None else noise.shape[1]
    if modality == "image":
        return passes_of(config, modality, len(batch["noise"]), 0, patches)
    known = batch["texts"].of if "texts" in batch else (batch["ids"] != 0).sum(dim=1).tolist()
    return [
        one
        for length, rows in sorted(Counter(known).items())
        for one in passes_of(config, modality, rows, length, patches)
    ]


def passes_of(
    config: TaskConfig, modality: str, rows: int, length: int, patches: int
) -> list[EncoderPass]:
    """The passes of one forward of `rows` samples: texts of `length`, pictures of `patches`."""
    if modality == "image":
        kept = round(patches * (1.0 - config.image_mask_ratio))
        unread = rows * (1 + kept)
        return [
            EncoderPass(rows, 1 + kept, decoded=rows, decoded_length=1 + patches, undecoded=unread)
        ]
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
        false = rows * config.matching_fraction if "matching" in objectives else 0.0
        words = rows * length * config.pair_text_mask_ratio if "pair_mlm" in objectives else 0.0
        decoded = rows if "pair_mim" in objectives else 0
        read = words + decoded * kept + (0 if decoded else rows) + false
        if config.shared_passes:
            one = EncoderPass(
                *(rows + false, kept + length, words, decoded, 1 + patches),
                image_length=kept,
                false=false,
                unread=(rows + false) * (kept + length) - read,
                undecoded=decoded * kept,
            )
            return [*passes, one]
        if "matching" in objectives:
            joint = 1 + patches + length
            unread = (rows + false) * (joint - 1)
            sizes = (rows + false, joint)
            passes.append(EncoderPass(*sizes, image_length=1 + patches, false=false, unread=unread))
        if "pair_mlm" in objectives:
            joint = 1 + patches + length
            unread = rows * (joint - 1) - words
            passes.append(EncoderPass(rows, joint, words, image_length=1 + patches, unread=unread))
        if "pair_mim" in objectives:
            sizes = (rows, kept + length, 0.0, decoded, 1 + patches)
            passes.append(
                EncoderPass(
                    *sizes, image_length=kept, unread=rows * length, undecoded=decoded * kept
                )
            )
    return passes


def _transformer_flops(tokens: float, length: int, width: int, depth: int, ratio: float) -> float:
    """Forward: two a weight and token, and the two products of attention."""
    weights = (4 + 2 * ratio) * width**2
    return depth * tokens * (2 * weights + 4 * length * width)


def _unread_flops(tokens: float, length: int, width: int, ratio: float) -> float:
    """Of these tokens a last block makes keys and values only."""
    return tokens * (2 * (2 + 2 * ratio) * width**2 + 4 * length * width)


def training_flops(config: ModelConfig, passes: Sequence[EncoderPass]) -> float:
    """Model FLOP, those that MFU counts: forward and backward (twice the forward), without what
    checkpointing computes again (`executed_flops`).

    Counted are the products in blocks and in the word head; the other heads are small.
    """
    total = 0.0
    for one in passes:
        for depth, rows, length in one.layers(config):
            total += _transformer_flops(
                rows * length, length, config.width, depth, config.mlp_ratio
            )
        total -= _unread_flops(one.unread, one.length, config.width, config.mlp_ratio)
        total += 2 * one.words * (config.width**2 + config.width * config.vocab_size)
        inner, length = config.decoder_width, one.decoded_length
        total += _transformer_flops(
            one.decoded * length, length, inner, config.decoder_depth, config.mlp_ratio
        )
        total -= _unread_flops(one.undecoded, length, inner, config.mlp_ratio)
    return 3 * total


def executed_flops(
    config: ModelConfig,
    passes: Sequence[EncoderPass],
    *,
    checkpointing: Checkpointing = "none",
    chunk: int = 0,
) -> float:
    """As `training_flops`, with what is computed again in the backward pass.

    Gradient caching (`chunk` above 0) makes the passes for the contrastive loss once more. With
    `blocks` the encoder's blocks are made again up to their last product, whose result no backward
    needs, also within a cached chunk. `elementwise` makes no product again.
    """
    again = 0.0
    for one in passes:
        for depth, rows, length in one.layers(config):
            tokens, width = rows * length, config.width
            forward = _transformer_flops(tokens, length, width, depth, config.mlp_ratio)
            if one.cached and chunk:
                again += forward
            if checkpointing == "blocks":
                again += forward - depth * tokens * 2 * config.mlp_ratio * width**2
        if checkpointing == "blocks":
            again -= _unread_flops(one.unread, one.length, config.width, config.mlp_ratio)
            again += one.unread * 2 * config.mlp_ratio * config.width**2
    return training_flops(config, passes) + again


def _block_parameters(width: int, ratio: float) -> int:
    hidden = int(ratio * width)
    return 4 * width**2 + 2 * width * hidden + 9 * width + hidden


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
        "image_embedding": (values + 3 + positions + 2 * config.image_norm) * width,
        "text_embedding": (config.vocab_size + config.max_text_length + 1 + 2 * config.text_norm)
        * width,
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


@dataclass(frozen=True)
class _Bytes:
    """Bytes a token of one block: `kept` for its backward pass, and `backward`, what exists beside
    it while its MLP's backward runs.

    `value` is the size of a result under autocast; the residual stream is fp32. Kept are both
    norms' inputs, queries, keys and values, attention's output (once more where it is put together
    from the outputs of several: `packed`) and the MLP's hidden layer; unless `elementwise` also the
    norms' and the GELU's outputs. `blocks` keeps the input only and makes the rest again.
    """

    kept: float
    backward: float

    @classmethod
    def of(
        cls,
        width: int,
        ratio: float,
        value: int,
        checkpointing: Checkpointing,
        packed: bool = False,
    ) -> _Bytes:
        hidden = value * ratio * width
        elementwise = value * (2 + ratio) * width
        products = 4 * 2 * width + value * (3 + 1 + packed) * width + hidden
        # The residual stream's gradient, in the product's width too; of GELU's output and input.
        gradients = (4 + (value if value < 4 else 0)) * width + 2 * hidden
        if checkpointing == "blocks":
            return cls(4 * width, products - 4 * width + elementwise + gradients)
        if checkpointing == "elementwise":
            return cls(products, hidden + gradients)
        return cls(products + elementwise, gradients)


def activation_bytes(
    config: ModelConfig,
    passes: Sequence[EncoderPass],
    *,
    half: bool = False,
    checkpointing: Checkpointing = "none",
    chunk: int = 0,
) -> float:
    """Bytes that a forward of `passes` and its backward need at their peak, weights apart.

    `half`: bf16 autocast; `checkpointing`: what is computed twice, `blocks` (the encoder's keep
    their inputs only) or `elementwise`; `chunk`: rows at a time of gradient caching, 0 for none.
    Attention keeps no matrix of scores. The peak is at one of three moments:

    - the forward's end: all passes' activations, the decoder's and the word losses' among them,
      with what the last loss makes on its way;
    - the first block of the backward: all passes' activations without the heads', which are used
      up, with what the backward of one block makes;
    - the backward of a cached chunk, last of all: by then the other passes' activations are used
      up, and of the chunks one has its own at a time.

    At all three: the batch's pictures, and autocast's bf16 copies of the weights.
    """
    value, cached = 2 if half else 4, [p for p in passes if p.cached and chunk]
    encoder = heads = last_loss = in_backward = 0.0
    for one in passes:
        if one in cached:
            continue
        block = _Bytes.of(
            *(config.width, config.mlp_ratio, value, checkpointing),
            packed=one.cached and not config.tower_depth,
        )
        kept, backward = _encoder_bytes(config, one, block)
        encoder, in_backward = encoder + kept, max(in_backward, backward)
        kept, made = _head_bytes(config, one, value, checkpointing)
        heads, last_loss = heads + kept, max(last_loss, made)
    in_chunk = 0.0
    for one in cached:  # pictures and texts of a chunk go through the blocks together
        part = replace(one, rows=min(chunk, one.rows))
        block = _Bytes.of(
            *(config.width, config.mlp_ratio, value, checkpointing), packed=not config.tower_depth
        )
        in_chunk += sum(_encoder_bytes(config, part, block))
    pictures = max(p.decoded or p.rows * (p.length == 1 + config.num_patches) for p in passes)
    always = pictures * 3 * config.image_size**2 * (1 + 4)  # uint8 and normalised
    if half:
        always += value * _matrix_parameters(config, any(p.decoded for p in passes))
    return always + max(encoder + heads + last_loss, encoder + in_backward, in_chunk)


def _encoder_bytes(config: ModelConfig, one: EncoderPass, block: _Bytes) -> tuple[float, float]:
    """Of a pass's blocks and the norm behind: what is kept, what one block's backward makes."""
    layers = one.layers(config)
    tokens = sum(blocks * rows * length for blocks, rows, length in layers)
    kept = tokens * block.kept + one.rows * one.length * 4 * 2 * config.width
    return kept, max(rows * length for _, rows, length in layers) * block.backward


def _head_bytes(
    config: ModelConfig, one: EncoderPass, value: int, checkpointing: Checkpointing
) -> tuple[float, float]:
    """Of the word head and the pixel decoder: what is kept, what the loss makes beside it.

    Words: the logits and the logarithms of their softmax are kept, another tensor of their size is
    made (logits in fp32, later their gradient). Pixels: patches, those that are masked, their
    targets, the error and its square.
    """
    decoder = _Bytes.of(
        *(config.decoder_width, config.mlp_ratio, value),
        "none" if checkpointing == "blocks" else checkpointing,
    )
    logits = one.words * config.vocab_size
    kept = logits * (4 + (value if value < 4 else 0))
    kept += one.decoded * one.decoded_length * config.decoder_depth * decoder.kept
    masked = one.decoded_length - (one.image_length or one.length)
    values = one.decoded * 3 * config.patch_size**2
    pixels = values * (4 * one.decoded_length + (4 * 4 + value) * masked)
    return kept, pixels if one.decoded else 4 * logits


def _matrix_parameters(config: ModelConfig, decoder: bool) -> int:
    """Weights of the matrix products of all blocks: autocast casts them once a forward."""
    total = config.depth + 2 * config.tower_depth
    weights = total * _block_parameters(config.width, config.mlp_ratio)
    if decoder:
        weights += config.decoder_depth * _block_parameters(config.decoder_width, config.mlp_ratio)
    return weights


def state_bytes(parameters: int, *, frozen: int = 0, shards: int = 1, ema: bool = False) -> float:
    """Bytes of weights, gradients and AdamW's two moments in fp32, over `shards` devices.

    `frozen`: parameters of which only the weights are held. `ema`: averaged weights. Under DDP the
    gradients are views of its buckets, which are there all the time.
    """
    return (parameters * (4 + 4 + 8 + (4 if ema else 0)) + frozen * 4) / shards
