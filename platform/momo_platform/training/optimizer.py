"""AdamW and its learning-rate schedule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.modules.conv import _ConvNd

from momo_platform.training.config import OptimizerConfig
from momo_platform.training.parallel import is_sharded

_PRODUCTS = (nn.Linear, nn.Bilinear, _ConvNd)


def learning_rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """Linear warm-up, then cosine to `final_learning_rate_ratio`; `step` counts from 0."""
    warmup = min(config.warmup_steps, max(1, steps // 2))
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    floor = config.learning_rate * config.final_learning_rate_ratio
    return floor + 0.5 * (config.learning_rate - floor) * (1 + math.cos(math.pi * progress))


def _decayed(module: nn.Module) -> set[nn.Parameter]:
    """Weights of products, with one output too, and tables of several rows."""
    found: set[nn.Parameter] = set()
    for owner in module.modules():
        for parameter in owner.parameters(recurse=False):
            if parameter.ndim < 2 or isinstance(owner, nn.LayerNorm):
                continue
            if isinstance(owner, _PRODUCTS) or min(parameter.shape) > 1:
                found.add(parameter)
    return found


def build_optimizer(module: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW; biases, norms, tokens, positions, embedding tables of one row and scalars get no
    weight decay."""
    decay, plain, unsharded = [], [], []
    sharded, decayed = is_sharded(module), _decayed(module)
    for parameter in module.parameters():
        if not parameter.requires_grad:
            continue
        if parameter in decayed:
            decay.append(parameter)
        elif sharded and not isinstance(parameter, DTensor):
            unsharded.append(parameter)  # the fused update takes one kind of tensor a group
        else:
            plain.append(parameter)
    groups = [
        {"params": decay, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    if unsharded:
        groups.append({"params": unsharded, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def update_where_finite(optimizer: torch.optim.Optimizer, finite: Tensor) -> None:
    """One step where `finite` (no dimension, on the device) is 1; nothing at all where it is 0.

    The fused update reads it on the device, by the way that gradient scalers tell it of gradients
    to skip: weights, moments and the counts of steps stay as they are, and the host never waits.
    """
    skipping: Any = optimizer
    skipping.found_inf = 1.0 - finite.float()
    try:
        optimizer.step()
    finally:
        del skipping.found_inf
