"""Row groups of a bucket on this machine's disk: fetched once for all its processes, bounded."""

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

    A file that a machine's crash left half written is not read: each boot begins anew.
    """

    def __init__(self, name: str, limit: int | None = None) -> None:
        self._root = cache_root() / "rows"
        boot = _BOOT.read_text().strip() if _BOOT.exists() else "unknown"
        self._folder = self._root / boot / name
        self._folder.mkdir(parents=True, exist_ok=True)
        self._limit = limit if limit is not None else self._allowed()
        self._since_tidied = 0

    def _allowed(self) -> int:
        return int(
            _SHARE * (shutil.disk_usage(self._root).free + sum(s for _, s, _ in self._all()))
        )

    def batch(self, name: str, fetch: Callable[[], pa.RecordBatch]) -> pa.RecordBatch:
        """What is kept by a name; fetched, by one process of the machine, where nothing is."""
        path = self._folder / f"{name}.arrow"
        if (found := _mapped(path)) is not None:
            return found
        with self._locked(f"lock-{zlib.crc32(name.encode()) % _LOCKS}"):
            if (found := _mapped(path)) is not None:
                return found
            batch = fetch()
            try:
                _write(path, batch)
            except OSError as error:
                logger.warning("%s can't be kept (%s): it will be fetched again", path, error)
                return batch
        self._since_tidied += batch.nbytes
        if self._since_tidied > self._limit // 16:
            self._since_tidied = 0
            self._tidy()
        return _mapped(path) or batch

    @contextlib.contextmanager
    def _locked(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        """Among processes and threads; False where another one has it and we don't wait."""
        with (self._folder / name).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True  # closing the file lets go

    def _all(self) -> list[tuple[int, int, Path]]:
        """When each file was used, in ns, its size and its path, of this and all other corpora."""
        found = []
        for path in self._root.rglob("*.arrow*"):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                found.append((stat.st_mtime_ns, stat.st_size, path))
        return found

    def _tidy(self) -> None:
        with self._locked("tidying", wait=False) as mine:
            if not mine:
                return
            files = sorted(self._all())
            size = sum(size for _, size, _ in files)
            for _, one, path in files:
                if size <= 0.8 * self._limit:
                    break
                path.unlink(missing_ok=True)
                size -= one


def _mapped(path: Path) -> pa.RecordBatch | None:
    try:
        with pa.memory_map(str(path)) as file:
            batch = pa.ipc.open_file(file).get_batch(0)
    except FileNotFoundError:
        return None
    with contextlib.suppress(FileNotFoundError):
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
