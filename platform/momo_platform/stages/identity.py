"""Which process it was: so that a record of a dead one is known as such."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from momo_platform.stages.lease import process_runs


def process_identity() -> dict[str, Any]:
    """This process so that nobody takes another one for it: a number alone is given again, on
    another machine, in another container or after a restart."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "place": _place(),
        "began": _began(os.getpid()),
    }


def _place() -> str:
    """Equal for processes that see each other's numbers; '' where that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _began(pid: int) -> str:
    """When a process began, in its machine's ticks; '' where that is not known."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def fate(identity: Mapping[str, Any]) -> Literal["runs", "gone", "unknown"]:
    """Of a process that wrote down its identity; 'unknown' where it can't be told from here."""
    if not identity.get("place") or identity["place"] != _place():
        return "unknown"
    pid = int(identity["pid"])
    return "runs" if process_runs(pid) and _began(pid) == identity["began"] else "gone"
