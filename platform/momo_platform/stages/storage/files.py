"""A storage's files as such, whatever they are: what a folder and an object store have in common.

Paths are relative to the storage, with `/`. Ages go by the storage's own clock: this machine's may
be off by any amount.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


def is_bucket(uri: str) -> bool:
    """Whether a storage's name is one of an object store, and not of a folder."""
    return "://" in uri.removeprefix("file://")


@dataclass(frozen=True)
class Entry:
    """One file or folder: `size` is None for a folder, `changed` in seconds of the storage's
    clock (0 where a store doesn't keep it)."""

    name: str
    size: int | None
    changed: float


class Files(Protocol):
    """Small files are read and written whole."""

    @property
    def uri(self) -> str:
        """What opens the same place in another process."""
        ...

    @property
    def root(self) -> Path | None:
        """The folder that it is; None for an object store."""
        ...

    @property
    def fs(self) -> Any:
        """The `pyarrow.fs` file system that it lies in."""
        ...

    def place(self, path: str) -> Any:
        """Where a path lies, existing or not: a Path in a folder, bucket and key on a store."""
        ...

    def create(self) -> None:
        """Where a run is to write. Raises UserError for a place that can't be made or written."""
        ...

    def entries(self, folder: str) -> list[Entry]:
        """What lies directly in a folder, by name; nothing for one that is not there."""
        ...

    def below(self, folder: str) -> list[Entry]:
        """All that lies below a folder, with names relative to it."""
        ...

    def size(self, path: str) -> int | None:
        """Bytes of a file; None where there is none."""
        ...

    def get(self, path: str) -> bytes | None:
        """A file, or None."""
        ...

    def writing(self, path: str) -> AbstractContextManager[Path]:
        """A file of this machine, of any size, which is that of the storage when the block has
        ended well: whole, or not at all, and there after a power failure. It is gone else."""
        ...

    def put(self, path: str, content: str, *, durably: bool = False) -> None:
        """Write a small file whole; `durably`: it is there after a power failure, too."""
        ...

    def remove(self, path: str, *, strictly: bool = False) -> None:
        """Delete a file or a folder with all in it; fine where it is gone. `strictly`: raises
        OSError for what can't be deleted."""
        ...

    def now(self) -> float:
        """The time by the storage's own clock."""
        ...

    def unreadable(self, path: str, error: OSError) -> str:
        """What a person is told of a file that is there and can't be read."""
        ...
