"""Image-text matching with in-batch hard negatives (ALBEF, arXiv 2107.07651, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from momo.objectives.loss import Loss


def hard_negatives(similarity: Tensor, excluded: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Draw for each of R rows one of B columns, in proportion to softmax(similarity).

    `similarity` [R, B] (already scaled), `excluded` [R, B] bool (never drawn), `noise` [R] in
    [0, 1): the draw is the inverse of the cumulated distribution, so it is the same every time.
    → column index [R] int64 and `valid` [R] bool, False where every column is excluded.
    """
    valid = ~excluded.all(dim=1)
    scores = similarity.detach().double().masked_fill(excluded, float("-inf"))
    scores = torch.where(valid[:, None], scores, torch.zeros_like(scores))
    cumulated = scores.softmax(dim=1).cumsum(dim=1)
    point = noise.double()[:, None] * cumulated[:, -1:]
    index = torch.searchsorted(cumulated.contiguous(), point, right=True).squeeze(1)
    return index.clamp_max(similarity.shape[1] - 1), valid


def matching_loss(logits: Tensor, matches: Tensor) -> Loss:
    """Binary cross-entropy. `logits` [M], `matches` [M] bool. Count: M. Metric: accuracy."""
    logits = logits.float()
    total = nn.functional.binary_cross_entropy_with_logits(
        logits, matches.to(logits.dtype), reduction="sum"
    )
    accuracy = ((logits.detach() > 0) == matches).float().mean()
    count = torch.tensor(float(logits.numel()), device=logits.device)
    return Loss(sum=total, count=count, metrics={"accuracy": accuracy})
