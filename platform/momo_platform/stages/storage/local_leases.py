"""Leases in a local or shared folder: a file that its holder touches.

Creating it decides who was first, on every file system.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import NamedTuple

from momo_platform.stages.liveness import OLD_SECONDS, SILENT_SECONDS, ProcessIdentity, Watch
from momo_platform.stages.storage.leases import LeaseKind, Leases
from momo_platform.stages.storage.local import past_passing_faults

FILE_NAME = "lease.json"


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
        text, status = past_passing_faults(read)
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


def token_of(folder: Path) -> str | None:
    """The token of whoever holds the lease on an artifact's folder now, or None."""
    lease = _read(folder / FILE_NAME)
    return None if lease is None else lease.token


class LocalLeases(Leases):
    """Of one driver, in folders."""

    def _take(self, folder: Path) -> str | None:
        past_passing_faults(lambda: folder.mkdir(parents=True, exist_ok=True))
        if other := holder(folder, self._watch):
            return other
        path = folder / FILE_NAME
        if path.exists():
            self._remove_dead(folder)
        content = ProcessIdentity.own().asdict() | {"token": self._token}
        try:
            _write_new(path, json.dumps(content))
        except FileExistsError:  # another driver was faster
            return holder(folder) or "another driver"
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

    def _is_seen_alive(self, folder: Path) -> bool:
        path = folder / FILE_NAME
        lease = _read(path)
        return lease is not None and bool(lease.process.is_here or self._watch.changes(path))

    def _token_at(self, folder: Path) -> str | None:
        return token_of(folder)

    def _renew(self, folder: Path) -> bool:
        if token_of(folder) != self._token:
            return False
        os.utime(folder / FILE_NAME)
        return True

    def _give_back(self, folder: Path) -> None:
        """Delete it, unless another driver has taken it since (we were silent for long). On a
        storage that takes no writes any more it expires."""
        with contextlib.suppress(OSError):
            if token_of(folder) == self._token:
                (folder / FILE_NAME).unlink(missing_ok=True)


LOCAL = LeaseKind(LocalLeases, lambda folder, now: holder(folder, now=now), token_of)


def _write_new(path: Path, text: str) -> None:
    """A file that must not be there yet. Raises FileExistsError. Others see a lease that can't be
    read until it is written."""
    with past_passing_faults(lambda: path.open("x", encoding="utf-8")) as file:
        try:
            file.write(text)
            file.flush()
        except OSError:  # a full disk
            path.unlink(missing_ok=True)
            raise
