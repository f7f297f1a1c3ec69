"""Masked, contrastive and matching losses. Each returns a sum and its count, not a mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Loss:
    """A scalar `sum` over `count` terms; `metrics` are means already."""

    sum: Tensor
    count: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


def _count(value: int, like: Tensor) -> Tensor:
    return torch.tensor(float(value), device=like.device)


def mim_loss(predicted: Tensor, patches: Tensor, masked: Tensor, *, normalise: bool = True) -> Loss:
    """Squared error of masked patches against (per-patch normalised) pixels; MAE eq. in §3.

    `predicted`, `patches` [B, N, P]; `masked` bool [B, N]. The count is of masked patches; a
    patch's term is the mean over its P values.
    """
    target = patches
    if normalise:
        mean = patches.mean(dim=-1, keepdim=True)
        target = (patches - mean) / (patches.var(dim=-1, keepdim=True) + 1e-6).sqrt()
    error = (predicted - target).square().mean(dim=-1)
    return Loss((error * masked).sum(), masked.sum().float())


def mlm_loss(logits: Tensor, targets: Tensor) -> Loss:
    """Cross entropy at masked positions: `logits` [M, V], `targets` [M]."""
    loss = functional.cross_entropy(logits, targets, reduction="sum")
    accuracy = (logits.argmax(dim=-1) == targets).float().mean() if len(targets) else loss * 0
    return Loss(loss, _count(len(targets), logits), {"mlm_accuracy": accuracy.detach()})


def gather_with_gradient(x: Tensor) -> Tensor:
    """Rows of all ranks in order of rank; gradients flow back to the rank that owns a row."""
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        from torch.distributed.nn.functional import all_gather

        return torch.cat(all_gather(x), dim=0)  # type: ignore[arg-type]
    return x


def contrastive_loss(
    image: Tensor, text: Tensor, scale: Tensor, same: Tensor | None = None
) -> Loss:
    """Symmetric InfoNCE over the global batch (CLIP, arXiv 2103.00020).

    `image`, `text` [B, E] unit vectors of this rank; `scale` the inverse temperature. `same`
    int64 [B] marks rows with equal captions: they are no negatives of each other.
    """
    everyone_image, everyone_text = gather_with_gradient(image), gather_with_gradient(text)
    rank = torch.distributed.get_rank() if len(everyone_image) > len(image) else 0
    labels = torch.arange(len(image), device=image.device) + rank * len(image)
    image_logits = scale * image @ everyone_text.T
    text_logits = scale * text @ everyone_image.T
    if same is not None:
        everyone_same = gather_with_gradient(same.float()).long()
        duplicate = same[:, None] == everyone_same[None, :]
        duplicate.scatter_(1, labels[:, None], False)
        image_logits = image_logits.masked_fill(duplicate, -1e4)
        text_logits = text_logits.masked_fill(duplicate, -1e4)
    loss = 0.5 * (
        functional.cross_entropy(image_logits, labels, reduction="sum")
        + functional.cross_entropy(text_logits, labels, reduction="sum")
    )
    accuracy = (image_logits.argmax(dim=-1) == labels).float().mean()
    return Loss(loss, _count(len(image), image), {"contrastive_accuracy": accuracy.detach()})


def matching_loss(logits: Tensor, matches: Tensor) -> Loss:
    """Two-way cross entropy, `logits` [M, 2], `matches` int64 [M] (ALBEF, arXiv 2107.07651)."""
    loss = functional.cross_entropy(logits, matches, reduction="sum")
    accuracy = (logits.argmax(dim=-1) == matches).float().mean()
    return Loss(loss, _count(len(matches), logits), {"matching_accuracy": accuracy.detach()})


@torch.no_grad()
def hard_negatives(similarity: Tensor, forbidden: Tensor, noise: Tensor) -> Tensor:
    """One column a row, drawn by softmax of `similarity` [B, B], never where `forbidden`.

    `noise` [B] uniform: the draw is the inverse of the cumulative distribution, so it is
    reproducible. A row whose every column is forbidden gets the column -1.
    """
    weights = torch.softmax(similarity.masked_fill(forbidden, -1e4), dim=1)
    weights = weights.masked_fill(forbidden, 0.0)
    cumulative = weights.cumsum(dim=1)
    total = cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, noise[:, None] * total, right=True).squeeze(1)
    drawn = drawn.clamp_max(similarity.shape[1] - 1)
    return torch.where(forbidden.all(dim=1), torch.full_like(drawn, -1), drawn)
