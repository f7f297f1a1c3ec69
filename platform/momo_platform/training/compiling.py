"""torch.compile by region: what repeats and what surrounds it, each compiled once."""

from __future__ import annotations

import os
from typing import Any

from torch import nn

from momo_platform.cache import cache_root
from momo_platform.training.parallel import blocks_of

_CACHE_DIR = "TORCHINDUCTOR_CACHE_DIR"
_LEAST_RECOMPILE_LIMIT = 64
# Of torch's timers, those that hold all others; the second runs where a backward pass is compiled
# only when it is needed.
_TIMERS = ("_compile.compile_inner", "backward._backward_impl")


def compile_regions(task: nn.Module) -> None:
    """Compile what the task's optional `regions()` names, else its blocks, else itself.

    The compiler's cache outlives the run (`TORCHINDUCTOR_CACHE_DIR`, by default in the user's
    cache): the next one on the machine compiles the same regions in seconds.
    """
    from torch._dynamo import config  # `torch.compiler.config` has not all of it
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    # Parts of torch name their own folder here as soon as they are imported: the temporary one.
    if os.environ.get(_CACHE_DIR) in (None, "", default_cache_dir()):
        os.environ[_CACHE_DIR] = str(cache_root() / "compiled")
    settings: Any = config
    # A norm's epsilon stays a number: as a tensor it can't be shared with what is checkpointed.
    settings.specialize_float = True
    # Counted for all models of the process together; beyond it nothing more is compiled.
    settings.recompile_limit = max(settings.recompile_limit, _LEAST_RECOMPILE_LIMIT)
    # A region is smaller than DDP's wish to cut it where its buckets end.
    settings.optimize_ddp = False
    named: Any = getattr(task, "regions", None)
    # Batches differ in rows and length: of static shapes the compiler would soon have too many.
    for region in (list(named()) if named is not None else blocks_of(task)) or [task]:
        region.compile(dynamic=True)


def seconds_compiling() -> float:
    """What this process has spent compiling so far."""
    from torch._dynamo.utils import compile_times  # torch's documented way; in no public module

    names, values = compile_times(repr="csv", aggregate=True)
    found: dict[str, Any] = dict(zip(names, values, strict=True))
    return sum(float(found.get(name, 0.0)) for name in _TIMERS)
