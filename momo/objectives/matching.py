"""Image-text matching with in-batch hard negatives (ALBEF, arXiv 2107.07651, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Negatives:
    """False pairs, int64 [F]: the rows of their pictures and of their texts. First those that keep
    their text and drew a picture, `known_text_rows`, then those that drew a text. `valid` bool [F]:
    False where no other pair could be drawn."""

    image_rows: Tensor
    text_rows: Tensor
    valid: Tensor
    known_text_rows: tuple[int, ...]


def draw_negatives(
    similar: tuple[Tensor, Tensor] | None,
    keys: Tensor,
    noise: Tensor,
    group: int,
    fraction: float,
) -> Negatives:
    """False pairs of a batch of B: each within a group of `group` neighbours, so that a batch
    divided among workers in whole groups has the same ones.

    Of each group the first `fraction` take part: even rows keep their picture and draw a text, odd
    rows keep their text and draw a picture, in proportion to how alike the two are. `similar`:
    pictures, scaled, and texts [B, E], or None: all are as likely. `keys` [B, K] as `pair_keys`
    gives them; `noise` [B]. Raises ValueError for a batch that is not whole groups.
    """
    rows = keys.shape[0]
    group = min(group, rows)
    if rows % group:
        raise ValueError(
            f"{rows} pairs are not whole groups of task.matching_group={group}: give a batch of "
            "pairs a worker that is a multiple of it"
        )
    count = round(group * fraction)
    own = torch.arange(count, device=keys.device)
    even = own % 2 == 0
    if similar is None:
        scores = torch.zeros(rows // group, group, group, device=keys.device)
    else:
        with torch.autocast(keys.device.type, enabled=False):
            image, text = (t.float().unflatten(0, (-1, group)) for t in similar)
            scores = image @ text.transpose(1, 2)
    keys = keys.unflatten(0, (-1, group))
    same = (keys[:, :, None] == keys[:, None]).any(dim=-1)
    scores = torch.where(even[:, None], scores[:, :count], scores.transpose(1, 2)[:, :count])
    drawn, valid = hard_negatives(
        scores.flatten(0, 1),
        same[:, :count].flatten(0, 1),
        noise.unflatten(0, (-1, group))[:, :count].flatten(),
    )
    first = torch.arange(0, rows, group, device=keys.device)[:, None]
    own, other = first + own, first + drawn.unflatten(0, (-1, count))

    def odd_then_even(odd: Tensor, even: Tensor) -> Tensor:
        return torch.cat([odd[:, 1::2].flatten(), even[:, 0::2].flatten()])

    valid = valid.unflatten(0, (-1, count))
    return Negatives(
        odd_then_even(other, own),
        odd_then_even(own, other),
        odd_then_even(valid, valid),
        tuple(start + row for start in range(0, rows, group) for row in range(1, count, 2)),
    )


def matching_loss(logits: Tensor, matches: Tensor, valid: Tensor | None = None) -> Loss:
    """Binary cross-entropy. `logits` [M], `matches` [M] bool. Count: M. Metric: accuracy.

    Pairs that are not `valid`, bool [M], count nowhere.
    """
    logits = logits.float()
    each = nn.functional.binary_cross_entropy_with_logits(
        logits, matches.to(logits.dtype), reduction="none"
    )
    right = (logits.detach() > 0) == matches
    if valid is None:
        valid = torch.ones_like(matches)
    count = valid.sum().to(logits.dtype)
    accuracy = (right & valid).sum() / count.clamp_min(1.0)
    return Loss(sum=each.where(valid, 0.0).sum(), count=count, metrics={"accuracy": accuracy})
