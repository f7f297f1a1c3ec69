"""How exactly a model computes. Importing this imports no torch: configurations name it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

if TYPE_CHECKING:
    import torch
    from torch import nn

FloatPrecision = Literal["fp32", "tf32", "bf16"]
"""`fp32`: plain products. `tf32`: products of 10-bit mantissas added up in fp32, on GPUs that have
them; on CPUs the same as `fp32`. `bf16`: autocast, products in bf16."""
Precision = Literal["fp32", "tf32", "bf16", "int8"]
"""`FloatPrecision`, or `int8`: the blocks' products of 8-bit integers (`momo.int8`). On CPUs, for
finished models."""


def check_precision(precision: str) -> None:
    """Raise ValueError for what is no `Precision`."""
    if precision not in get_args(Precision):
        raise ValueError(f"precision={precision!r}: give {', '.join(get_args(Precision))}")


def check_float_precision(precision: str) -> None:
    """Raise ValueError for what is no `FloatPrecision`."""
    if precision not in get_args(FloatPrecision):
        known = ", ".join(get_args(FloatPrecision))
        hint = "; int8 is for models that momo.load opens" if precision == "int8" else ""
        raise ValueError(f"precision={precision!r}: give {known}{hint}")


def check_device(precision: str, device: torch.device) -> None:
    """Raise ValueError for an unknown precision, and for one that the device does not compute."""
    check_precision(precision)
    if precision == "int8" and device.type != "cpu":
        raise ValueError(
            f"precision='int8' is for CPUs, not for {device}: give bf16 there, or device='cpu'"
        )


def float_part(precision: Precision) -> FloatPrecision:
    """What is not computed in int8: in an int8 model that is fp32."""
    return "fp32" if precision == "int8" else precision


@contextmanager
def at_precision(precision: FloatPrecision, device: torch.device) -> Iterator[None]:
    """What is computed on `device` inside is computed so; afterwards all is as it was.

    The choice of TF32 is the process's, not the thread's: another thread that computes meanwhile
    computes so too. Raises ValueError for an unknown precision.
    """
    import torch

    check_float_precision(precision)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    with _products_in_tf32(precision == "tf32" and device.type == "cuda"), autocast:
        yield


@contextmanager
def _products_in_tf32(allowed: bool) -> Iterator[None]:
    """Torch keeps the choice twice, under old and new names, and refuses to read an old name where
    the two differ. Its compiler reads both: they are set by the old names, which change the new
    ones too. Restored are both, since others may have set the new ones alone."""
    import torch

    # cuDNN's convolutions take TF32 unless told otherwise, and foreign models have some.
    cuda, cudnn, cpu = torch.backends.cuda, cast(Any, torch.backends.cudnn), torch.backends.mkldnn
    news: tuple[Any, ...] = (cuda.matmul, cudnn.conv, cudnn.rnn, cast(Any, cpu).matmul)
    values = [new.fp32_precision for new in news]
    old_matmul = _readable(torch.get_float32_matmul_precision)
    old_cudnn = _readable(lambda: cudnn.allow_tf32)
    try:
        torch.set_float32_matmul_precision("high" if allowed else "highest")
        cudnn.allow_tf32 = allowed
        yield
    finally:
        torch.set_float32_matmul_precision(old_matmul or "highest")
        cudnn.allow_tf32 = old_cudnn if old_cudnn is not None else True
        for new, value in zip(news, values, strict=True):
            new.fp32_precision = value


def _readable(read: Callable[[], Any]) -> Any:
    """None where torch refuses, because the new names say something else."""
    try:
        return read()
    except RuntimeError:
        return None


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
