"""Masked image and masked language modelling."""

from __future__ import annotations

from torch import Tensor, nn

from momo.losses.loss import Loss


def patch_targets(patches: Tensor, normalise: bool = True) -> Tensor:
    """MAE's target: each patch with its own mean and deviation removed. [B, N, P] → same."""
    if not normalise:
        return patches
    centred = patches - patches.mean(dim=-1, keepdim=True)
    # torch's own variance takes several times as long on CPUs.
    variance = centred.square().sum(dim=-1, keepdim=True) / (patches.shape[-1] - 1)
    return centred / (variance + 1e-6).sqrt()


def mim_loss(prediction: Tensor, patches: Tensor, normalise_target: bool = True) -> Loss:
    """Mean squared error a masked patch (MAE, arXiv 2111.06377, section 3).

    `prediction` and `patches` [B, M, 3·p·p], of the masked patches only. Count: masked patches.
    """
    target = patch_targets(patches, normalise_target)
    error = (prediction.float() - target).square().mean(dim=-1)
    return Loss(sum=error.sum(), count=error.new_full((), error.numel()))


def mlm_loss(logits: Tensor, targets: Tensor) -> Loss:
    """Cross-entropy a masked word. `logits` [M, V] at the masked positions, `targets` [M].

    Count: M. Without masked words the sum is a differentiable 0. Metric: accuracy.
    """
    logits = logits.float()
    total = nn.functional.cross_entropy(logits, targets, reduction="sum")
    count = logits.new_full((), targets.numel())
    right = (logits.detach().argmax(dim=-1) == targets).sum()
    return Loss(sum=total, count=count, metrics={"accuracy": right / count.clamp_min(1.0)})
