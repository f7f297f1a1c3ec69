"""Masks as pure functions of uniform noise that comes with the batch: no global randomness."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SpecialIds:
    """Ids of the tokenizer's special tokens; all ids below `first_word` are special."""

    pad: int = 0
    unknown: int = 1
    cls: int = 2
    sep: int = 3
    mask: int = 4
    first_word: int = 5


PAD = SpecialIds.pad


def trim_padding(ids: Tensor, multiple: int = 8) -> int:
    """Length of the longest text of `ids` [B, T], rounded up to `multiple`, at most T."""
    used = int((ids != PAD).any(dim=0).sum())
    return min(ids.shape[1], max(multiple, -(-used // multiple) * multiple))


@dataclass(frozen=True)
class MaskedTokens:
    """`ids` [B, T] with masks applied; `selected` [B, T] bool: the positions to predict."""

    ids: Tensor
    selected: Tensor


def random_patch_keep(noise: Tensor, mask_ratio: float) -> tuple[Tensor, Tensor]:
    """Keep the patches with the least noise (MAE, arXiv 2111.06377, section 3).

    `noise` [B, N] in [0, 1) → ascending patch indices (int64), `keep` [B, K] and `masked`
    [B, N - K]. At least one patch is kept and, for a ratio above 0, at least one is masked.
    """
    total = noise.shape[1]
    kept = round(total * (1.0 - mask_ratio))
    kept = max(1, min(kept, total - 1 if mask_ratio > 0 and total > 1 else total))
    order = noise.argsort(dim=1, stable=True)
    return order[:, :kept].sort(dim=1).values, order[:, kept:].sort(dim=1).values


def mask_tokens(
    ids: Tensor,
    mask: Tensor,
    noise: Tensor,
    *,
    vocab_size: int,
    ratio: float = 0.15,
    special: SpecialIds = SpecialIds(),
) -> MaskedTokens:
    """BERT's masking: 80 % become [MASK], 10 % a random word, 10 % stay (arXiv 1810.04805, 3.1).

    `ids` [B, T] int64, `mask` [B, T] bool (True: a token, not padding), `noise` [B, T, 3] in
    [0, 1): which positions, which of the three ways, which random word. Exactly
    `max(1, round(ratio · words))` words of a row are selected, never padding, [CLS] or [SEP];
    a row without words has none.
    """
    word = mask & (ids != special.pad) & (ids != special.cls) & (ids != special.sep)
    words = word.sum(dim=1, keepdim=True)
    wanted = (words * ratio).round().clamp_min(1).minimum(words)
    rank = noise[..., 0].masked_fill(~word, 2.0).argsort(dim=1, stable=True).argsort(dim=1)
    selected = word & (rank < wanted)
    way = noise[..., 1]
    drawn = special.first_word + (noise[..., 2] * (vocab_size - special.first_word)).long()
    drawn = drawn.clamp_max(vocab_size - 1)
    replaced = torch.where(way < 0.8, torch.full_like(ids, special.mask), ids)
    replaced = torch.where((way >= 0.8) & (way < 0.9), drawn, replaced)
    return MaskedTokens(ids=torch.where(selected, replaced, ids), selected=selected)


def draw(noise: Tensor, stream: int, n: int) -> Tensor:
    """Uniform numbers float32 [B, n] in [0, 1), a function of each row of `noise` [B, …] and of
    `stream`, by the mixing of SplitMix64 (Steele et al., OOPSLA 2014). Zeros at a row's end change
    nothing: padding has no say."""
    bits = noise.contiguous().view(torch.int32) if noise.is_floating_point() else noise
    bits = bits.flatten(1).long()
    odd = 2 * torch.arange(bits.shape[1], device=bits.device) + 1
    row = _mixed((bits * _mixed(odd)).sum(dim=1) + stream)
    column = torch.arange(1, n + 1, device=bits.device)
    mixed = _mixed(row[:, None] + column * -7046029254386353131)
    return (mixed & (2**24 - 1)).float() / 2**24


def _mixed(values: Tensor) -> Tensor:
    """int64, whose product wraps."""
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        values = (values ^ (values >> shift & 2 ** (64 - shift) - 1)) * factor
    return values ^ (values >> 31 & 2**33 - 1)
