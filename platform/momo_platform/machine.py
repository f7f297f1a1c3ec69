"""What a result was measured on."""

from __future__ import annotations

import os
import platform


def machine_description() -> str:
    """Processor count, memory, system: enough to tell machines apart."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{os.cpu_count()} cores {platform.machine()}, {pages:.0f} GiB, {platform.system()}"
