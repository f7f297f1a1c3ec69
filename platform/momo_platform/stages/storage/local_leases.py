"""Leases: one driver at a time makes an artifact; a dead driver's lease expires.

A lease is a file that its holder touches every five seconds. It is dead when its holder is known
to be gone, or when it has stayed the same for thirty seconds in which a taker watched
(`liveness.py`). A driver that was stopped for so long finds its lease `lost`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from momo_platform.stages.liveness import (
    HEARTBEAT_SECONDS,
    OLD_SECONDS,
    SILENT_SECONDS,
    ProcessIdentity,
    Watch,
)

T = TypeVar("T")
FILE_NAME = "lease.json"
_TRIES, _PAUSE_SECONDS = 5, 0.05
_LOOK_SECONDS = 0.5


def _past_stale_handles(call: Callable[[], T]) -> T:
    """A file server may have replaced what a name leads to: looked up again, it is there."""
    for _ in range(_TRIES - 1):
        try:
            return call()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            time.sleep(_PAUSE_SECONDS)
    return call()


class _Lease(NamedTuple):
    """What lies there. `sign` changes with every heartbeat; `token` is None for a lease that can't
    be read: its holder is just writing it, died in that, or lets nobody read."""

    token: str | None
    process: ProcessIdentity
    sign: tuple[int, ...]


def _read(path: Path) -> _Lease | None:
    """The lease, or None where there is none. Opening asks a file server anew, as a look at the
    file's times alone does not."""

    def read() -> tuple[bytes, os.stat_result]:
        try:
            with path.open("rb") as file:
                return file.read(), os.fstat(file.fileno())
        except PermissionError:
            return b"", path.stat()

    try:
        text, status = _past_stale_handles(read)
    except (FileNotFoundError, NotADirectoryError):
        return None
    sign = (status.st_ino, status.st_mtime_ns, status.st_size)
    try:
        content = json.loads(text)
        return _Lease(str(content["token"]), ProcessIdentity.read(content), sign)
    except (ValueError, KeyError, TypeError):
        return _Lease(None, ProcessIdentity("", 0), sign)


def holder(folder: Path, watch: Watch | None = None, now: float | None = None) -> str | None:
    """Who holds a live lease on an artifact's folder ('host, process 123'), or None.

    With a `watch`, a lease is dead too that stayed the same for 30 s of its looks. For a single
    look: with the storage's time `now`, one that was not beaten for an hour.
    """
    path = folder / FILE_NAME
    lease = _read(path)
    if lease is None:
        return None
    silent = watch is not None and watch.silent(path, lease.sign) >= SILENT_SECONDS
    old = now is not None and now - lease.sign[1] / 1e9 >= OLD_SECONDS
    dead = silent or lease.process.is_gone or (old and not lease.process.is_here)
    return None if dead else str(lease.process)


class Leases:
    """All leases of one driver, kept alive by one thread."""

    poll_seconds = 0.0
    """How often a lease that somebody else has may be asked for."""

    def __init__(self) -> None:
        self._token = uuid.uuid4().hex
        self._watch = Watch()
        self._held: set[Path] = set()
        self._lost: set[Path] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        threading.Thread(target=self._beat, daemon=True, name="lease-heartbeat").start()

    @staticmethod
    def token(folder: Path) -> str | None:
        """The token of whoever holds the lease on an artifact's folder now, or None."""
        lease = _read(folder / FILE_NAME)
        return None if lease is None else lease.token

    @property
    def own_token(self) -> str:
        """This driver's token: what `token` gives for a lease that is held here."""
        return self._token

    def acquire(self, folder: Path) -> str | None:
        """Take the lease on an artifact's folder; returns its holder when somebody else has it.

        A dead holder's lease is taken after several calls, which watch it.
        """
        path = folder / FILE_NAME
        with self._lock:
            if path in self._held:
                return None
        _past_stale_handles(lambda: folder.mkdir(parents=True, exist_ok=True))
        if other := holder(folder, self._watch):
            return other
        if path.exists():
            self._remove_dead(folder)
        content = ProcessIdentity.own().asdict() | {"token": self._token}
        try:
            _write_new(path, json.dumps(content))
        except FileExistsError:  # another driver was faster
            return holder(folder) or "another driver"
        with self._lock:
            self._held.add(path)
            self._lost.discard(path)
        return None

    def acquire_watching(self, folder: Path) -> str | None:
        """Like `acquire`, but waits until it is known whether a holder of whom only signs of life
        tell still lives: for one heartbeat, or the thirty seconds of a dead one."""
        path = folder / FILE_NAME
        while other := self.acquire(folder):
            lease = _read(path)
            if lease is not None and (lease.process.is_here or self._watch.changes(path)):
                return other
            time.sleep(_LOOK_SECONDS)
        return None

    def _remove_dead(self, folder: Path) -> None:
        """Delete a dead lease. A guard folder lets one driver at a time look and delete.

        Without it a slow taker, who saw the dead lease, deletes the fresh one of a faster taker.
        """
        guard = folder / f"{FILE_NAME}.takeover"
        try:
            guard.mkdir()
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                sign = guard.stat().st_ino, guard.stat().st_mtime_ns
                if self._watch.silent(guard, sign) >= SILENT_SECONDS:
                    guard.rmdir()  # its maker died between two lines
            return
        try:
            if holder(folder, self._watch) is None:
                (folder / FILE_NAME).unlink(missing_ok=True)
                self._watch.forget(folder / FILE_NAME)
        finally:
            guard.rmdir()

    def is_lost(self, folder: Path) -> bool:
        """Whether a lease that was acquired here went to another driver, by the last heartbeat."""
        with self._lock:
            return folder / FILE_NAME in self._lost

    def holds(self, folder: Path) -> bool:
        """Whether a lease that was acquired here is still ours; looks. Of a storage that does not
        answer nothing is known, and it is taken to be."""
        try:
            return self.token(folder) == self._token
        except OSError:
            return True

    def release(self, folder: Path) -> None:
        """Give one lease back."""
        path = folder / FILE_NAME
        with self._lock:
            self._held.discard(path)
            self._lost.discard(path)
        self._unlink(path)

    def close(self) -> None:
        """Give all leases back and stop the heartbeat."""
        self._stop.set()
        with self._lock:
            held, self._held = self._held, set()
        for path in held:
            self._unlink(path)

    def _unlink(self, path: Path) -> None:
        """Delete a lease, unless another driver has taken it since (we were silent for long). On a
        storage that takes no writes any more it expires."""
        with contextlib.suppress(OSError):
            lease = _read(path)
            if lease is not None and lease.token == self._token:
                path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            with self._lock:
                held = list(self._held)
            for path in held:
                with contextlib.suppress(OSError):  # the next beat tries again
                    lease = _read(path)
                    if lease is not None and lease.token == self._token:
                        os.utime(path)
                        continue
                    with self._lock:
                        if path in self._held:  # else given back just now
                            self._held.discard(path)
                            self._lost.add(path)


def _write_new(path: Path, text: str) -> None:
    """A file that must not be there yet. Raises FileExistsError. Creating is what decides who was
    first, on every file system; others see a lease that can't be read until it is written."""
    with _past_stale_handles(lambda: path.open("x", encoding="utf-8")) as file:
        try:
            file.write(text)
            file.flush()
        except OSError:  # a full disk
            path.unlink(missing_ok=True)
            raise
