"""Which patches and tokens are masked: pure functions of uniform noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PAD, UNK, CLS, SEP, MASK = range(5)
NUM_SPECIAL = 5


@dataclass(frozen=True)
class PatchMask:
    """`keep`: indices of visible patches, int64 [batch, kept], ascending; `masked`: bool [batch, N]."""

    keep: Tensor
    masked: Tensor


@dataclass(frozen=True)
class TokenMask:
    """`ids`: the corrupted tokens [batch, length]; `masked`: bool, where the loss is taken."""

    ids: Tensor
    masked: Tensor


def mask_patches(noise: Tensor, ratio: float) -> PatchMask:
    """Mask `ratio` of the patches with the largest noise [batch, N] (MAE, arXiv 2111.06377)."""
    batch, patches = noise.shape
    kept = max(1, round(patches * (1 - ratio)))
    keep = noise.argsort(dim=1)[:, :kept].sort(dim=1).values
    masked = torch.ones(batch, patches, dtype=torch.bool, device=noise.device)
    masked.scatter_(1, keep, False)
    return PatchMask(keep, masked)


def mask_tokens(ids: Tensor, noise: Tensor, ratio: float, vocab_size: int) -> TokenMask:
    """BERT's corruption: of the chosen tokens 80 % `[MASK]`, 10 % random, 10 % unchanged.

    `ids` [batch, length] with PAD = 0; `noise` [batch, length, 3] uniform in [0, 1). Special
    tokens are never chosen; every row with an ordinary token gets at least one.
    """
    ordinary = ids >= NUM_SPECIAL
    chance = noise[..., 0].masked_fill(~ordinary, 2.0)
    lowest = chance.argmin(dim=1, keepdim=True)
    masked = chance < ratio
    masked = masked.scatter(1, lowest, ordinary.gather(1, lowest))
    kind = noise[..., 1]
    random_ids = (noise[..., 2] * (vocab_size - NUM_SPECIAL)).long() + NUM_SPECIAL
    corrupted = torch.where(kind < 0.8, torch.full_like(ids, MASK), ids)
    corrupted = torch.where(kind >= 0.9, random_ids, corrupted)
    return TokenMask(torch.where(masked, corrupted, ids), masked)
