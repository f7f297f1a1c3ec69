"""What this process does with memory that it has freed."""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import Any

_TRIM, _TOP_PAD, _MMAP = -1, -2, -3  # of <malloc.h>
_MIB = 2**20
_LARGEST = 32
"""MiB: glibc before 2.35 takes no higher threshold. A thread's heap has room for two of these."""


def keep_freed_memory(largest_mib: int = _LARGEST) -> bool:
    """From now on memory that is freed is used again, where glibc's malloc would give it back to
    the system: every tensor of some megabytes then comes as fresh pages, which the system must
    clear (a twelfth of an update of a small model on a CPU). Pieces up to `largest_mib` are kept,
    1 GiB of them at the end of the heap, and all below what is still in use.

    Whether it is so: not without such a malloc, nor where the environment has settings of its own
    (`MALLOC_…`).
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = _libc().mallopt
        if mallopt(_MMAP, largest_mib * _MIB) != 1 and mallopt(_MMAP, _LARGEST * _MIB) != 1:
            return False
        return all(mallopt(name, mib * _MIB) == 1 for name, mib in ((_TRIM, 1024), (_TOP_PAD, 64)))
    return False


def give_freed_memory_back() -> None:
    """What is kept until now goes back to the system: for a process that others use next."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        _libc().malloc_trim(0)


def _libc() -> Any:
    return ctypes.CDLL(None)
