"""This machine: what a result was measured on, ports, where a new Python finds our modules."""

from __future__ import annotations

import os
import platform
import socket
import sys


def machine_description() -> str:
    """Processor count, memory, system: enough to tell machines apart."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{os.cpu_count()} cores {platform.machine()}, {pages:.0f} GiB, {platform.system()}"


def free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 that nobody listens on now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def with_our_modules(**changes: str) -> dict[str, str]:
    """This process's environment, with `changes`, for a new Python that is to find the modules that
    this one finds."""
    paths = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": paths, **changes}
