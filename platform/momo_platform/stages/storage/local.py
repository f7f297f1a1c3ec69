"""A storage's files in a local or shared folder."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from momo_platform.files import write_whole, writing_whole
from momo_platform.stages.errors import UserError
from momo_platform.stages.storage.files import Entry

if TYPE_CHECKING:
    import pyarrow.fs as pafs

T = TypeVar("T")
_TRIES, _PAUSE_SECONDS = 5, 0.05


def past_passing_faults(call: Callable[[], T]) -> T:
    """Again after a moment: a file server may have replaced what a name leads to, and a device may
    fail once."""
    for _ in range(_TRIES - 1):
        try:
            return call()
        except OSError as error:
            if error.errno not in (errno.ESTALE, errno.EIO):
                raise
            time.sleep(_PAUSE_SECONDS)
    return call()


class LocalFiles:
    """Below a folder. Links are neither followed nor listed.

    Raises UserError for a URI of another scheme than file, and for a home that is not there.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        text = os.fspath(folder).removeprefix("file://")
        if "://" in text:
            raise UserError(f"storage {text} is no local folder; use open_storage")
        try:
            self.root = Path(text).expanduser().resolve()
        except RuntimeError as error:  # a user without a home, or unknown
            raise UserError(f"storage {text}: {error} Give the folder without ~") from error
        self.uri = str(self.root)  # joining paths is what planning a thousand stages would wait for

    @property
    def fs(self) -> pafs.FileSystem:
        import pyarrow.fs as pafs

        return pafs.LocalFileSystem()

    def place(self, path: str) -> Path:
        return self.root / path

    def create(self) -> None:
        """Make the folder."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not os.access(self.root, os.W_OK | os.X_OK):
                sealed = os.statvfs(self.root).f_flag & os.ST_RDONLY
                code = errno.EROFS if sealed else errno.EACCES
                raise OSError(code, os.strerror(code))
        except OSError as error:
            raise self._unfit(error.strerror) from error

    def check_place(self) -> None:
        """Raises UserError, as `create` would, where a file is in the way of the folder."""
        try:
            in_the_way = not stat.S_ISDIR(self.root.stat().st_mode)
            code = errno.EEXIST
        except NotADirectoryError:
            in_the_way, code = True, errno.ENOTDIR
        except OSError:  # not there yet, or told by what reads it
            return
        if in_the_way:
            raise self._unfit(os.strerror(code))

    def _unfit(self, why: str | None) -> UserError:
        return UserError(f"storage {self.root}: {why}; choose another folder with --storage")

    def entries(self, folder: str) -> list[Entry]:
        try:
            found = list(os.scandir(f"{self.uri}/{folder}"))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(_described(found, ""), key=lambda e: e.name)

    def below(self, folder: str) -> list[Entry]:
        found: list[Entry] = []
        waiting = [""]
        while waiting:
            inner = waiting.pop()
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                for entry in _described(list(os.scandir(f"{self.uri}/{folder}/{inner}")), inner):
                    found.append(entry)
                    if entry.size is None:
                        waiting.append(entry.name + "/")
        return found

    def size(self, path: str) -> int | None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            status = os.stat(f"{self.uri}/{path}")
            return status.st_size if stat.S_ISREG(status.st_mode) else None

    def get(self, path: str) -> bytes | None:
        def read() -> bytes:
            with open(f"{self.uri}/{path}", "rb") as file:
                return file.read()

        try:
            return past_passing_faults(read)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def put(self, path: str, content: str, *, durably: bool = False) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, content, durably=durably)

    @contextlib.contextmanager
    def writing(self, path: str) -> Iterator[Path]:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with writing_whole(target) as temporary:
            yield temporary

    def remove(self, path: str, *, strictly: bool = False) -> None:
        place = self.root / path
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place, ignore_errors=not strictly)
        else:
            place.unlink(missing_ok=True)

    def now(self) -> float:
        probe = self.root / f".clock-{uuid.uuid4().hex}"
        probe.touch()
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)

    def unreadable(self, path: str, error: OSError) -> str:
        return (
            f"{self.root / path}: can't be read ({error.strerror}); make it readable, or remove "
            "the folder that it is in"
        )


def _described(found: list[os.DirEntry[str]], inner: str) -> Iterator[Entry]:
    for one in found:
        with contextlib.suppress(FileNotFoundError):  # it went meanwhile
            status = one.stat(follow_symlinks=False)
            is_folder = stat.S_ISDIR(status.st_mode)
            if is_folder or stat.S_ISREG(status.st_mode):
                size = None if is_folder else status.st_size
                yield Entry(inner + one.name, size, status.st_mtime)
