"""torch.compile by region: what repeats and what surrounds it, each compiled once."""

from __future__ import annotations

import os
from typing import Any

from torch import nn

from momo_platform.cache import cache_root
from momo_platform.training.parallel import blocks_of


def compile_regions(task: nn.Module) -> None:
    """Compile what the task's optional `regions()` names, else its blocks, else itself.

    The compiler's cache outlives the run (`TORCHINDUCTOR_CACHE_DIR`, by default in the user's
    cache): the next one on the machine compiles the same regions in seconds.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_root() / "compiled"))
    named: Any = getattr(task, "regions", None)
    # Batches differ in rows and length: of static shapes the compiler would soon have too many.
    for region in (list(named()) if named is not None else blocks_of(task)) or [task]:
        region.compile(dynamic=True)


def seconds_compiling() -> float:
    """What this process has spent compiling so far."""
    from torch._dynamo.utils import compile_times  # torch's documented way; in no public module

    names, values = compile_times(repr="csv", aggregate=True)
    for name, value in zip(names, values, strict=True):
        if name == "_compile.compile_inner":
            return float(value)
    return 0.0
