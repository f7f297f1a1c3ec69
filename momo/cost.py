"""What a batch costs in training: tokens, floating-point operations and memory, from its shapes.

No torch: plans import this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from momo.config import ModelConfig, TaskConfig
from momo.modalities import MODALITIES, extras
from momo.objectives import Objective
from momo.passes import EncoderPass, Shape, View

Checkpointing = Literal["none", "elementwise", "blocks"]


def encoder_passes(
    config: TaskConfig, modality: str, batch: Mapping[str, Any]
) -> list[EncoderPass]:
    """The passes of one forward of `batch`, without padding: those of texts by their lengths.
    Masked words are counted from the ratio, false pairs as if they had the texts of the true."""
    return _passes(config, modality, MODALITIES[modality].shapes(batch))


def passes_of(
    model: ModelConfig, config: TaskConfig, modality: str, rows: int, length: int
) -> list[EncoderPass]:
    """The passes of one forward of `rows` samples, texts of `length`."""
    return _passes(config, modality, [MODALITIES[modality].shape(model, rows, length)])


def _passes(config: TaskConfig, modality: str, shapes: Sequence[Shape]) -> list[EncoderPass]:
    """Those that objectives share once, and each objective's own."""
    objectives, views = config.in_use(modality), {}
    for one in objectives:
        for view in one.reads:
            key = type(view) if view.is_shared(config) else (type(view), one.name)
            views[key] = views[key] | view if key in views else view
    sources: list[View | Objective] = [*views.values(), *objectives]
    return [found for s in shapes for source in sources for found in source.passes(config, s)]


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
    extra = (extras()[name] for name in config.extra_modalities)
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
        **{one.part: one.embedding_parameters(config) for one in extra},
    }


def encoder_parameters(config: ModelConfig) -> int:
    """Of the encoder with its embeddings, without the heads."""
    heads = ("pixel_decoder", "word_head", "contrastive", "matching")
    return sum(n for part, n in parameter_counts(config).items() if part not in heads)


def trained_parts(config: ModelConfig, task: TaskConfig) -> set[str]:
    """The parts of `parameter_counts` that a stage trains. Raises ValueError where an objective
    names one that is none."""
    read = {part for one in task.in_use() for view in one.reads for part in view.parts}
    own = {one.part for name, one in extras().items() if name in task.modalities}
    shared = set() if config.tower_depth else {"blocks"}
    known = parameter_counts(config)
    for one in task.in_use():
        if unknown := [part for part in one.parts if part not in known]:
            raise ValueError(
                f"objective {one.name}: parts has {unknown}, which no model has; known: {[*known]}"
            )
    return shared.union(own, read, *(one.parts for one in task.in_use()))


def trained_parameters(config: ModelConfig, task: TaskConfig) -> int:
    """Parameters that a stage trains; the rest is frozen and has no gradient or moments."""
    counts = parameter_counts(config)
    of_model = sum(counts[part] for part in trained_parts(config, task))
    return of_model + sum(one.head_parameters(config) for one in task.in_use())


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
    whole = 1 + config.num_patches
    pictures = max((p.decoded or p.rows * (p.length == whole) for p in passes), default=0)
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
