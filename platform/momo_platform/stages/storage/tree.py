"""A storage's files as such, whatever they are: what is listed, aged and freed beside artifacts.

Paths are relative to the storage, with `/`. Ages go by the storage's own clock: this machine's may
be off by any amount.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from momo_platform.files import write_whole


@dataclass(frozen=True)
class Entry:
    """One file or folder: `size` is None for a folder, `changed` in seconds of the storage's
    clock (0 where a store doesn't keep it)."""

    name: str
    size: int | None
    changed: float


class Tree(Protocol):
    """What a folder and an object store have in common."""

    def entries(self, folder: str) -> list[Entry]:
        """What lies directly in a folder, by name; nothing for one that is not there."""
        ...

    def below(self, folder: str) -> list[Entry]:
        """All that lies below a folder, with names relative to it."""
        ...

    def get(self, path: str) -> bytes | None:
        """A file, or None."""
        ...

    def put(self, path: str, content: str) -> None:
        """Write a small file whole."""
        ...

    def remove(self, path: str) -> None:
        """Delete a file or a folder with all in it; fine where it is gone."""
        ...

    def now(self) -> float:
        """The time by the storage's own clock."""
        ...


class LocalTree:
    """Below a local or shared folder. Links are neither followed nor listed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._text = str(root)  # joining paths is what planning a thousand stages would wait for

    def entries(self, folder: str) -> list[Entry]:
        try:
            found = list(os.scandir(f"{self._text}/{folder}"))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(_described(found, ""), key=lambda e: e.name)

    def below(self, folder: str) -> list[Entry]:
        found: list[Entry] = []
        waiting = [""]
        while waiting:
            inner = waiting.pop()
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                for entry in _described(list(os.scandir(f"{self._text}/{folder}/{inner}")), inner):
                    found.append(entry)
                    if entry.size is None:
                        waiting.append(entry.name + "/")
        return found

    def get(self, path: str) -> bytes | None:
        place = f"{self._text}/{path}"
        try:
            if not os.path.lexists(place):
                return None
            with open(place, "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def put(self, path: str, content: str) -> None:
        file = self._root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, content, durably=False)

    def remove(self, path: str) -> None:
        place = self._root / path
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink(missing_ok=True)

    def now(self) -> float:
        probe = self._root / f".clock-{uuid.uuid4().hex}"
        probe.touch()
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)


def _described(found: list[os.DirEntry[str]], inner: str) -> Iterator[Entry]:
    for one in found:
        with contextlib.suppress(FileNotFoundError):  # it went meanwhile
            status = one.stat(follow_symlinks=False)
            is_folder = stat.S_ISDIR(status.st_mode)
            if is_folder or stat.S_ISREG(status.st_mode):
                size = None if is_folder else status.st_size
                yield Entry(inner + one.name, size, status.st_mtime)
