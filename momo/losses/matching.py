"""Image-text matching with in-batch hard negatives (ALBEF, arXiv 2107.07651, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from momo.losses.loss import Loss


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
    """False pairs by the group [G, C] that they were drawn in: `own`, the row that drew, and
    `other`, the row that it drew, int64; `valid` bool: False where no other could be drawn.

    Even columns keep their picture and drew a text, odd ones keep their text and drew a picture.
    In the vectors [F], those that drew a picture come first.
    """

    own: Tensor
    other: Tensor
    valid: Tensor

    def image_rows(self) -> Tensor:
        """Rows of the pictures, int64 [F]."""
        return torch.cat([self.other[:, 1::2].flatten(), self.own[:, 0::2].flatten()])

    def text_rows(self) -> Tensor:
        """Rows of the texts, int64 [F]."""
        return torch.cat([self.own[:, 1::2].flatten(), self.other[:, 0::2].flatten()])

    def valid_pairs(self) -> Tensor:
        """bool [F]."""
        return torch.cat([self.valid[:, 1::2].flatten(), self.valid[:, 0::2].flatten()])

    def known_text_rows(self, rows: int) -> list[int]:
        """Of a batch of `rows`: the first of `text_rows`, which no draw decides."""
        groups, count = self.own.shape
        step = rows // groups
        return [start + row for start in range(0, rows, step) for row in range(1, count, 2)]

    def of_rows(self, start: int, stop: int, group: int) -> Negatives:
        """Those of whole groups, with rows counted from `start`."""
        groups = slice(start // group, -(-stop // group))
        own, other = self.own[groups] - start, self.other[groups] - start
        return Negatives(own, other, self.valid[groups])


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
    shape = rows // group, count
    first = torch.arange(0, rows, group, device=keys.device)[:, None]
    own, other = (first + own).expand(shape), first + drawn.view(shape)
    return Negatives(own, other, valid.view(shape))


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
