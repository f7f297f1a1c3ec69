"""What this process does with memory that it has freed."""

from __future__ import annotations

import contextlib
import ctypes

_TRIM, _TOP_PAD, _MMAP = -1, -2, -3  # of <malloc.h>
_MIB = 2**20


def keep_freed_memory(most_mib: int = 1024) -> bool:
    """From now on memory that is freed is used again, `most_mib` of it at most on the main thread,
    where glibc's malloc would give it back to the system: every tensor of some megabytes then comes
    as fresh pages, which the system must clear (a twelfth of an update of a small model on a CPU).
    Whether this process has such a malloc."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        # Larger ones come by mmap whatever is asked for; a thread's heap has room for two of these.
        settings = ((_MMAP, 32), (_TRIM, most_mib), (_TOP_PAD, 64))
        return all(mallopt(name, mib * _MIB) == 1 for name, mib in settings)
    return False
