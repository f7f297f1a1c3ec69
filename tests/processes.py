"""Processes that a test has started, from /proc."""

import contextlib
from pathlib import Path


def descendants(pid):
    """pid → command line of every process below `pid`."""
    parents, commands = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)] = int(fields[1])
                raw = (folder / "cmdline").read_bytes()
                commands[int(folder.name)] = raw.replace(b"\0", b" ").decode(errors="replace")
    found, grown = {pid}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return {p: commands[p] for p in found - {pid}}
