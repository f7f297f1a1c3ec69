"""A folder on this machine or in a bucket, read and written where it lies, from any process."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from momo_platform.stages.storage.files import Files, is_bucket
from momo_platform.stages.storage.folders import check_seen
from momo_platform.stages.storage.local import LocalFiles
from momo_platform.stages.storage.patience import patiently

if TYPE_CHECKING:
    import pyarrow.fs as pafs


@lru_cache(maxsize=64)
def _files(root: str, process: int) -> Files:
    """Connected once a process: a fork must not go on with its parent's connections."""
    if not is_bucket(root):
        return LocalFiles(root)
    from momo_platform.stages.storage.objects import ObjectFiles

    return ObjectFiles(root)


@dataclass(frozen=True)
class Place:
    """`path` below `root`, a local folder or a `pyarrow.fs` URI. Names are relative to it, with
    `/`. A store that does not answer is waited for (`patience.py`).

    With `shared` the root is there already: UserError on a machine that does not see it.
    """

    root: str
    path: str = ""
    shared: bool = field(default=False, compare=False)

    @staticmethod
    def of(given: Place | Path) -> Place:
        """A local folder's, too."""
        return given if isinstance(given, Place) else Place(str(given))

    def __truediv__(self, name: str) -> Place:
        return replace(self, path=self._inner(name))

    def __str__(self) -> str:
        root, mark, options = self.root.partition("?")
        return f"{root}/{self.path}".rstrip("/") + mark + options

    def _inner(self, name: str) -> str:
        return "/".join(part for part in (self.path, name) if part)

    @property
    def _files(self) -> Files:
        return _files(self.root, os.getpid())

    @property
    def folder(self) -> Path | None:
        """On this machine; None in a bucket."""
        root = self._files.root
        return None if root is None else root / self.path

    def full(self, name: str = "") -> str:
        """A name's path in `system`."""
        return str(self._files.place(self._inner(name))).rstrip("/")

    @property
    def system(self) -> pafs.FileSystem:
        """The `pyarrow.fs` file system that it lies in."""
        return self._files.fs

    @contextlib.contextmanager
    def _seen(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            self._check_seen()
            raise

    def _check_seen(self) -> None:
        if self.shared and (root := self._files.root) is not None:
            check_seen(root)

    def open(self, name: str) -> Any:
        """A `pyarrow.NativeFile` that reads at any place. Raises FileNotFoundError."""
        with self._seen():
            return patiently(lambda: self.system.open_input_file(self.full(name)))

    def read(self, name: str) -> bytes:
        """A whole file. Raises FileNotFoundError."""
        with self._seen():
            if (content := self._files.get(self._inner(name))) is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.full(name))
            return content

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset`. Raises FileNotFoundError."""

        def part() -> bytes:
            with self.system.open_input_file(self.full(name)) as file:
                return file.read_at(size, offset)

        with self._seen():
            return patiently(part)

    def size(self, name: str) -> int | None:
        """Of a file; None where there is none."""
        return self._files.size(self._inner(name))

    def names(self, below: str = "") -> list[str]:
        """All files below a folder, sorted, relative to this place; none where it is not there.
        Hidden ones are left out, and with them what is being written."""
        found = self._files.below(self._inner(below))
        names = [f"{below}/{one.name}".lstrip("/") for one in found if one.size is not None]
        return sorted(name for name in names if not name.rpartition("/")[2].startswith("."))

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A file of this machine to be written, which is `name` here when the block has ended well:
        whole, or not at all, and there after a power failure. It is gone else."""
        self._check_seen()
        with self._files.writing(self._inner(name)) as path:
            yield path

    def write(self, name: str, content: bytes) -> None:
        """A file, whole or not at all."""
        with self.writing(name) as path:
            path.write_bytes(content)

    def remove(self, name: str) -> None:
        """A file or a folder with all in it; fine where it is gone."""
        self._files.remove(self._inner(name))


def copy_file(source: Place, target: Place, name: str) -> None:
    """A file of another place under the same name: a hard link where both are folders of one file
    system, else a copy. One that is there already goes. Raises FileNotFoundError."""
    target.remove(name)
    if source.folder is not None and target.folder is not None:
        path = target.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source.folder / name, path)
        except FileNotFoundError:
            raise
        except OSError:  # another file system, or one without links
            pass
        else:
            return
    with source.open(name) as origin, target.writing(name) as path, path.open("wb") as copy:
        shutil.copyfileobj(origin, copy, 2**24)
