"""A folder on this machine or in a bucket, read and written where it lies, from any process."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from momo_platform.stages.storage.patience import patiently

if TYPE_CHECKING:
    import pyarrow.fs as pafs

_CHUNK = 2**22


@lru_cache(maxsize=64)
def _opened(root: str) -> tuple[pafs.FileSystem, str]:
    """File system and path of a local path or URI, connected once a process."""
    import pyarrow.fs as pafs

    if "://" in root:
        system, path = pafs.FileSystem.from_uri(root)
        return system, path.rstrip("/")
    return pafs.LocalFileSystem(), os.path.abspath(root)


@dataclass(frozen=True)
class Place:
    """`path` below `root`, a local folder or a `pyarrow.fs` URI. Names are relative to it, with
    `/`. A store that does not answer is waited for (`patience.py`)."""

    root: str
    path: str = ""

    def __truediv__(self, name: str) -> Place:
        return Place(self.root, f"{self.path}/{name}".lstrip("/"))

    def __str__(self) -> str:
        return f"{self.root}/{self.path}".rstrip("/")

    @property
    def folder(self) -> Path | None:
        """On this machine; None in a bucket."""
        return None if "://" in self.root else Path(os.path.abspath(self.root)) / self.path

    def full(self, name: str = "") -> str:
        """A name's path in `system`."""
        return "/".join(part for part in (_opened(self.root)[1], self.path, name) if part)

    @property
    def system(self) -> pafs.FileSystem:
        """The `pyarrow.fs` file system that it lies in."""
        return _opened(self.root)[0]

    def open(self, name: str) -> Any:
        """A `pyarrow.NativeFile` that reads at any place. Raises FileNotFoundError."""
        return patiently(lambda: self.system.open_input_file(self.full(name)))

    def read(self, name: str) -> bytes:
        """A whole file. Raises FileNotFoundError."""

        def whole() -> bytes:  # a stream would ask a store for a small piece at a time
            with self.system.open_input_file(self.full(name)) as file:
                return file.read_at(file.size(), 0)

        return patiently(whole)

    def size(self, name: str) -> int | None:
        """Of a file; None where there is none."""
        import pyarrow.fs as pafs

        info = patiently(lambda: self.system.get_file_info(self.full(name)))
        return info.size if info.type == pafs.FileType.File else None

    def names(self, below: str = "") -> list[str]:
        """All files below a folder, sorted, relative to this place; none where it is not there.
        Files that are being written are left out."""
        import pyarrow.fs as pafs

        selector = pafs.FileSelector(self.full(below), recursive=True, allow_not_found=True)
        found = patiently(lambda: self.system.get_file_info(selector))
        here = self.full() + "/"
        files = [info.path.removeprefix(here) for info in found if info.type == pafs.FileType.File]
        return sorted(name for name in files if not name.rpartition("/")[2].startswith("."))

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A file of this machine to be written, which is `name` here when the block has ended well:
        whole, or not at all. It is gone else."""
        folder = self.folder
        if folder is not None:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
            try:
                yield temporary
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
            return
        with tempfile.TemporaryDirectory(prefix="place-") as scratch:
            temporary = Path(scratch) / "file"
            yield temporary

            def send() -> None:
                with temporary.open("rb") as file:
                    with self.system.open_output_stream(self.full(name)) as stream:
                        shutil.copyfileobj(file, stream, _CHUNK)

            patiently(send)

    def write(self, name: str, content: bytes) -> None:
        """A file, whole or not at all."""
        with self.writing(name) as path:
            path.write_bytes(content)

    def remove(self, name: str) -> None:
        """A file; fine where it is gone."""
        with contextlib.suppress(FileNotFoundError):
            patiently(lambda: self.system.delete_file(self.full(name)))
