"""This machine: what a result was measured on, ports, where a new Python finds our modules."""

from __future__ import annotations

import atexit
import getpass
import os
import platform
import random
import shutil
import socket
import sys
import tempfile
from pathlib import Path

from momo_platform.application import NAME
from momo_platform.cores import usable_cores


def machine_description() -> str:
    """Cores that this process may use, memory, system: enough to tell machines apart."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    cores, all_cores = usable_cores(), os.cpu_count()
    told = f"{cores}" if cores == all_cores else f"{cores} of {all_cores}"
    return f"{told} cores {platform.machine()}, {pages:.0f} GiB, {platform.system()}"


_SERVERS_PORTS = range(20_000, 30_000)
"""Where `free_ports` looks: above Ray's workers (10002 to 19999), below Serve's replicas (30000 to
31000) and below what Linux gives to outgoing connections (32768 to 60999). A port that the system
chooses is of the last kind: any connection of any process can take it before the server that it was
meant for listens, which takes seconds."""


def free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 that nobody listens on now. Raises OSError where there are not
    so many."""
    found: list[int] = []
    for port in random.SystemRandom().sample(_SERVERS_PORTS, len(_SERVERS_PORTS)):
        if len(found) == count:
            break
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    if len(found) < count:
        raise OSError(f"{count} free ports wanted, {len(found)} found")
    return found


def ensure_home() -> None:
    """A home and a name for a user that the system knows neither of (`docker run --user 12345`), in
    the environment of this process and its own: Ray and torch can't be imported without."""
    try:
        Path.home()
    except RuntimeError:
        folder = tempfile.mkdtemp(prefix=f"{NAME}-home-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["HOME"] = folder
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"user-{os.getuid()}"


def with_our_modules(**changes: str) -> dict[str, str]:
    """This process's environment, with `changes`, for a new Python that is to find the modules that
    this one finds."""
    paths = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": paths, **changes}
