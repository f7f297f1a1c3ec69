"""Cores: how many this process may use, which are near a GPU, which a worker takes."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_PCI = Path("/sys/bus/pci/devices")


def usable_cores(cgroups: Path = _CGROUPS, own: Path = _OWN_CGROUP) -> int:
    """Cores that this process may use: those it may run on, at most what its container is given
    of their time. At least 1."""
    return max(1, math.ceil(min(len(_allowed()), _quota(cgroups, own))))


def _allowed() -> set[int]:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _quota(cgroups: Path, own: Path) -> float:
    """Cores' worth of time that this process's cgroup and those around it grant at most, of version
    2 or 1; inf: no limit."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        lines = []
    paths = {path for _, kind, path in lines if not kind or "cpu" in kind.split(",")}
    least = math.inf
    for root in (cgroups, cgroups / "cpu"):
        least = min(least, _granted(root))
        for path in paths:  # "/" in a container with a namespace of its own
            group = root
            for part in Path(path).parts[1:]:
                group /= part
                least = min(least, _granted(group))
    return least


def _granted(group: Path) -> float:
    try:
        if (group / "cpu.max").exists():
            given, period = (group / "cpu.max").read_text().split()
            return math.inf if given == "max" else int(given) / int(period)
        given, period = (
            int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period")
        )
        return given / period if given > 0 else math.inf
    except OSError:
        return math.inf


def readers_from_cores(workers: int, modalities: int, cores: int | None = None) -> int:
    """Processes that decode for each of a worker's `modalities` with pictures, 1 at least: its part
    of the machine's cores (`workers` share them), but for two that train and feed."""
    part = (usable_cores() if cores is None else cores) // max(1, workers) - 2
    return max(1, part // max(1, modalities))


def cores_near(pci_address: str, devices: Path = _PCI) -> set[int]:
    """Cores of the NUMA node that a PCI device (`0000:3b:00.0`) hangs on; empty where the system
    does not tell."""
    if not pci_address:
        return set()
    try:
        text = (devices / pci_address / "local_cpulist").read_text()
    except OSError:
        return set()
    cores: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cores.update(range(int(first), int(last or first) + 1))
    return cores


def cores_of_worker(
    allowed: set[int], near: set[int], local_rank: int, workers: int, split: bool
) -> set[int]:
    """Of the cores allowed, those for one of a node's workers: near its GPU, where some are; with
    `split` and no GPU its even part, where there are enough."""
    if allowed & near:
        return allowed & near
    if not split or len(allowed) < workers:
        return allowed
    ordered, count = sorted(allowed), len(allowed)
    return set(ordered[count * local_rank // workers : count * (local_rank + 1) // workers])


def pin_cores(near: set[int], local_rank: int, workers: int, *, split: bool) -> None:
    """Keep this thread, and all threads and processes that it starts, on its worker's cores."""
    if not hasattr(os, "sched_setaffinity"):
        return
    allowed = _allowed()
    chosen = cores_of_worker(allowed, near, local_rank, workers, split)
    if chosen != allowed:
        os.sched_setaffinity(0, chosen)
