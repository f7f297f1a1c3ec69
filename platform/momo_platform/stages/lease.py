"""Leases: one driver at a time makes an artifact; a dead driver's lease expires."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path

FILE_NAME = "lease.json"
EXPIRES_AFTER_SECONDS = 30.0
HEARTBEAT_SECONDS = 5.0


def _read(path: Path) -> dict[str, object] | None:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def process_runs(pid: int) -> bool:
    """True while a process of this machine lives; a zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # a zombie, killed but not yet collected by its parent, holds nothing
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return True


def holder(folder: Path) -> str | None:
    """Who holds a live lease on an artifact's folder ('host, process 123'), or None.

    A lease is dead when its heartbeat is older than 30 s or its process on this host is gone.
    """
    path = folder / FILE_NAME
    content = _read(path)
    if content is None:
        return None
    try:
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return None
    host, pid = str(content["host"]), int(str(content["pid"]))
    alive = age < EXPIRES_AFTER_SECONDS and (host != socket.gethostname() or process_runs(pid))
    return f"{host}, process {pid}" if alive else None


def _remove_dead(folder: Path) -> None:
    """Delete a dead lease. A guard folder lets one driver at a time look and delete.

    Without it a slow taker, who saw the dead lease, deletes the fresh one of a faster taker.
    """
    guard = folder / f"{FILE_NAME}.takeover"
    try:
        guard.mkdir()
    except FileExistsError:
        with contextlib.suppress(FileNotFoundError):
            if time.time() - guard.stat().st_mtime > EXPIRES_AFTER_SECONDS:
                guard.rmdir()  # its maker died between two lines
        return
    try:
        if holder(folder) is None:
            (folder / FILE_NAME).unlink(missing_ok=True)
    finally:
        guard.rmdir()


class Leases:
    """All leases of one driver, kept alive by one thread."""

    def __init__(self) -> None:
        self._token = uuid.uuid4().hex
        self._held: set[Path] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        threading.Thread(target=self._beat, daemon=True, name="lease-heartbeat").start()

    @staticmethod
    def token(folder: Path) -> str | None:
        """The token of whoever holds the lease on an artifact's folder now, or None."""
        content = _read(folder / FILE_NAME)
        return None if content is None else str(content.get("token"))

    @property
    def own_token(self) -> str:
        """This driver's token: what `token` gives for a lease that is held here."""
        return self._token

    def acquire(self, folder: Path) -> str | None:
        """Take the lease on an artifact's folder; returns its holder when somebody else has it."""
        path = folder / FILE_NAME
        with self._lock:
            if path in self._held:
                return None
        folder.mkdir(parents=True, exist_ok=True)
        if other := holder(folder):
            return other
        mine = path.with_name(f"{FILE_NAME}.{self._token}")
        content = {"host": socket.gethostname(), "pid": os.getpid(), "token": self._token}
        mine.write_text(json.dumps(content))
        try:
            if path.exists():
                _remove_dead(folder)
            os.link(mine, path)  # fails when another driver was faster
        except FileExistsError:
            return holder(folder) or "another driver"
        finally:
            mine.unlink()
        with self._lock:
            self._held.add(path)
        return None

    def release(self, folder: Path) -> None:
        """Give one lease back."""
        path = folder / FILE_NAME
        with self._lock:
            self._held.discard(path)
        self._unlink(path)

    def close(self) -> None:
        """Give all leases back and stop the heartbeat."""
        self._stop.set()
        with self._lock:
            held, self._held = self._held, set()
        for path in held:
            self._unlink(path)

    def _unlink(self, path: Path) -> None:
        """Delete a lease, unless another driver has taken it since (we were silent for long)."""
        content = _read(path)
        if content is not None and content.get("token") == self._token:
            path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            with self._lock:
                held = list(self._held)
            for path in held:
                content = _read(path)
                if content is not None and content.get("token") == self._token:
                    with contextlib.suppress(FileNotFoundError):  # given back just now
                        os.utime(path)
