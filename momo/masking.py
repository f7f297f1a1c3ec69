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
