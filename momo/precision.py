"""How exactly a model computes. Importing this imports no torch: configurations name it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import torch
    from torch import nn

Precision = Literal["fp32", "tf32", "bf16"]
"""`fp32`: plain products. `tf32`: products of 10-bit mantissas added up in fp32, on GPUs that have
them (about four times as fast); on CPUs the same as `fp32`. `bf16`: autocast, products in bf16."""


def check_precision(precision: str) -> None:
    """Raise ValueError for what is no `Precision`."""
    if precision not in get_args(Precision):
        raise ValueError(f"precision={precision!r}: give {', '.join(get_args(Precision))}")


@contextmanager
def at_precision(precision: Precision, device: torch.device) -> Iterator[None]:
    """What is computed on `device` inside is computed so; afterwards all is as it was.

    The choice of TF32 is the process's, not the thread's: another thread that computes meanwhile
    computes so too. Raises ValueError for an unknown precision.
    """
    import torch

    check_precision(precision)
    # cuDNN's convolutions take TF32 unless told otherwise, and foreign models have some.
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value


def keep_linear_layers_in_bf16(model: nn.Module) -> None:
    """Once what autocast does in every call: the results are the same to the bit, and a call casts
    no weights, which takes longer than a short text. From then on the model computes at `bf16` only
    and can't be trained.
    """
    import torch
    from torch import nn

    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.to(torch.bfloat16)
