"""Row groups on this machine's disk: fetched and decoded once for all its processes, bounded."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa

from momo_platform.cache import cache_root

logger = logging.getLogger(__name__)
_LOCKS = 64
_SHARE = 0.25  # of the disk's free space, with what the cache itself takes
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class NodeCache:
    """Tables as Arrow files in a folder of `cache_root()`, mapped into memory: processes that have
    the same one share its pages. What was used longest ago goes when all take more than `limit`
    bytes; None: a quarter of the disk's free space.

    A file that a machine's crash left half written is not read: each boot begins anew. Where the
    disk can't be written to, a warning says so, and everything is fetched each time.
    """

    def __init__(self, name: str, limit: int | None = None) -> None:
        self._root = cache_root() / "rows"
        boot = _BOOT.read_text().strip() if _BOOT.exists() else "unknown"
        self._folder = self._root / boot / name
        self._told, self._limit = False, limit or 0
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._limit = limit if limit is not None else self._allowed()
        except OSError as error:
            self._tell(error)

    def _allowed(self) -> int:
        return int(
            _SHARE * (shutil.disk_usage(self._root).free + sum(s for _, s, _ in self._all()))
        )

    def batch(self, name: str, fetch: Callable[[], pa.RecordBatch]) -> pa.RecordBatch:
        """What is kept by a name; fetched, by one process of the machine, where nothing is."""
        path = self._folder / f"{name}.arrow"
        if (found := _mapped(path)) is not None:
            return found
        with contextlib.ExitStack() as locks:
            lock = self._folder / f"lock-{zlib.crc32(name.encode()) % _LOCKS}"
            try:
                locks.enter_context(_locked(lock))
                found = _mapped(path)
            except OSError as error:
                self._tell(error)
            if found is not None:
                return found
            batch = fetch()
            try:
                _write(path, batch)
                self._count(batch.nbytes)
            except OSError as error:
                self._tell(error)
                return batch
        return _mapped(path) or batch

    def _tell(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            logger.warning(
                "rows can't be kept in %s (%s): they will be fetched again", self._folder, error
            )

    def _count(self, size: int) -> None:
        """Bytes that any process wrote; each sixteenth of the limit the cache is tidied."""
        with _locked(self._root / "written") as file:
            total = int(file.read() or 0) + size
            if total > self._limit // 16:
                total = 0
                self._tidy()
            file.seek(0)
            file.truncate()
            file.write(str(total))

    def _all(self) -> list[tuple[int, int, Path]]:
        """When each file was used, in ns, its size and its path, of this and all other corpora."""
        found = []
        for path in self._root.rglob("*.arrow*"):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                found.append((stat.st_mtime_ns, stat.st_size, path))
        return found

    def _tidy(self) -> None:
        files = sorted(self._all())
        size = sum(size for _, size, _ in files)
        for _, one, path in files:
            if size <= 0.8 * self._limit:
                break
            path.unlink(missing_ok=True)
            size -= one


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[str]]:
    """A file that one process or thread has at a time; closing it lets go."""
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file


def _mapped(path: Path) -> pa.RecordBatch | None:
    try:
        with pa.memory_map(str(path)) as file:
            batch = pa.ipc.open_file(file).get_batch(0)
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException):  # damaged
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return batch


def _write(path: Path, batch: pa.RecordBatch) -> None:
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
