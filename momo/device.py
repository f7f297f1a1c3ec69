"""Where a model computes, and the way of its inputs there."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


def find_device(device: str | torch.device | None = None) -> torch.device:
    """The device of that name; None: a GPU where this process sees one, else the CPU.

    Raises ValueError for an unknown name and for a GPU that is not there.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise ValueError(f"device={str(device)!r}: give cpu, cuda or cuda:N")
    seen = torch.cuda.device_count() if found.type == "cuda" and torch.cuda.is_available() else 0
    if found.type == "cuda" and (found.index or 0) >= seen:
        raise ValueError(
            f"device={str(device)!r}: this process sees {seen} CUDA devices; give cpu, or look at "
            "nvidia-smi, CUDA_VISIBLE_DEVICES and whether this torch was built for CUDA"
        )
    return found


def device_of(model: nn.Module) -> torch.device:
    """Where its parameters are."""
    return next(model.parameters()).device


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """The array as a tensor there. To a GPU from pinned memory, so that it is not waited for."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
