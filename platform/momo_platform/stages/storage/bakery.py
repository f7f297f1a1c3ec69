"""Leases on object storage, which has no atomic "create if absent" that every store shares.

Lamport's bakery algorithm needs registers only: each driver writes one object of its own and
lists the others', which is safe where listing after writing is consistent (S3, GCS). A driver
first announces that it chooses a number, then takes one above all that it sees; the lowest
(number, token) among the living holds the lease. (L. Lamport, CACM 17(8), 1974.)
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any

import pyarrow.fs as pafs

from momo_platform.stages.liveness import (
    HEARTBEAT_SECONDS,
    OLD_SECONDS,
    SILENT_SECONDS,
    ProcessIdentity,
    Watch,
)
from momo_platform.stages.storage.patience import may_pass, patiently

FOLDER = "lease"
_CHOOSING_SECONDS = 5.0
_READS = 10


@dataclass(frozen=True)
class Claim:
    """One driver's object: `number` 0 while it chooses. `sign` changes with every heartbeat;
    `written` is when that was, by the store's clock."""

    token: str
    number: int
    process: ProcessIdentity
    sign: str
    written: float


def _read(fs: pafs.FileSystem, path: str) -> dict[str, Any] | None:
    return patiently(lambda: _read_once(fs, path))


def _read_once(fs: pafs.FileSystem, path: str) -> dict[str, Any] | None:
    """A claim; None when it was given back. One that is being overwritten is read again: to
    leave out a claim that is there would be unsafe."""
    for attempt in range(_READS):
        try:
            with fs.open_input_stream(path) as file:
                return json.loads(file.read())
        except FileNotFoundError:
            return None
        except (OSError, json.JSONDecodeError) as error:
            away = isinstance(error, OSError) and may_pass(error)
            if attempt == _READS - 1 or away:
                raise
            time.sleep(0.05)
    return None


def read_claims(fs: pafs.FileSystem, folder: str) -> list[Claim]:
    """Every claim below an artifact's folder."""
    claims = []
    selector = pafs.FileSelector(f"{folder}/{FOLDER}", allow_not_found=True)
    for info in patiently(lambda: fs.get_file_info(selector)):
        if (content := _read(fs, info.path)) is not None:
            written = info.mtime.timestamp() if info.mtime else 0.0
            claims.append(
                Claim(
                    info.base_name.removesuffix(".json"),
                    int(content["number"]),
                    ProcessIdentity.read(content),
                    f"{content.get('beat')} {written}",
                    written,
                )
            )
    return claims


def holder_of(fs: pafs.FileSystem, folder: str, now: float) -> str | None:
    """Who holds a live lease, by a single look: one not beaten for an hour before `now`, by the
    store's clock, is dead."""
    living = [
        claim
        for claim in read_claims(fs, folder)
        if claim.number
        and not claim.process.is_gone
        and (claim.process.is_here or now - claim.written < OLD_SECONDS)
    ]
    return str(min(living, key=lambda c: (c.number, c.token)).process) if living else None


def token_of(fs: pafs.FileSystem, folder: str) -> str | None:
    """The token of the lease's holder, or None. The dead count too: a silent driver that nobody
    has replaced still holds its lease."""
    numbered = [c for c in read_claims(fs, folder) if c.number]
    return min(numbered, key=lambda c: (c.number, c.token)).token if numbered else None


class ObjectLeases:
    """All leases of one driver on object storage, kept alive by one thread."""

    poll_seconds = 2.0
    """How often a lease that somebody else has may be asked for."""

    def __init__(self, fs: pafs.FileSystem) -> None:
        self._fs = fs
        self._token = uuid.uuid4().hex
        self._watch = Watch()
        self._held: dict[str, int] = {}
        self._lost: set[str] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        threading.Thread(target=self._beat, daemon=True, name="lease-heartbeat").start()

    @property
    def own_token(self) -> str:
        """This driver's token."""
        return self._token

    def _path(self, folder: str) -> str:
        return f"{folder}/{FOLDER}/{self._token}.json"

    def _write(self, folder: str, number: int) -> None:
        content = ProcessIdentity.own().asdict() | {"number": number, "beat": uuid.uuid4().hex}

        def write() -> None:
            with self._fs.open_output_stream(self._path(folder)) as file:
                file.write(json.dumps(content).encode())

        patiently(write)

    def _others(self, folder: str) -> list[Claim]:
        """Living claims of other drivers; dead ones are deleted."""
        living = []
        for claim in read_claims(self._fs, folder):
            if claim.token == self._token:
                continue
            who = folder, claim.token
            silent = self._watch.silent(who, claim.sign) >= SILENT_SECONDS
            if not silent and not claim.process.is_gone:
                living.append(claim)
            else:
                self._delete(f"{folder}/{FOLDER}/{claim.token}.json")
                self._watch.forget(who)
        return living

    def _delete(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            patiently(lambda: self._fs.delete_file(path))

    def acquire(self, folder: str) -> str | None:
        """Take the lease on an artifact's folder; returns its holder when somebody else has it.

        A dead holder's lease is taken after several calls, which watch it.
        """
        with self._lock:
            if folder in self._held:
                return None
        self._write(folder, 0)
        number = 1 + max((c.number for c in self._others(folder)), default=0)
        self._write(folder, number)
        deadline = time.monotonic() + _CHOOSING_SECONDS
        while True:
            others = self._others(folder)
            before = [c for c in others if c.number and (c.number, c.token) < (number, self._token)]
            if before:
                self._delete(self._path(folder))
                return str(min(before, key=lambda c: (c.number, c.token)).process)
            choosing = [c for c in others if not c.number]
            if not choosing:
                break
            if time.monotonic() > deadline:
                self._delete(self._path(folder))
                return str(choosing[0].process)
            time.sleep(0.05)
        with self._lock:
            self._held[folder] = number
            self._lost.discard(folder)
        return None

    def acquire_watching(self, folder: str) -> str | None:
        """Like `acquire`, but waits until it is known whether a holder of whom only signs of life
        tell still lives: for one heartbeat, or the thirty seconds of a dead one."""
        while other := self.acquire(folder):
            claims = [c for c in read_claims(self._fs, folder) if c.token != self._token]
            if any(c.process.is_here or self._watch.changes((folder, c.token)) for c in claims):
                return other
            time.sleep(self.poll_seconds)
        return None

    def is_lost(self, folder: str) -> bool:
        """Whether a lease that was acquired here went to another driver, by the last heartbeat."""
        with self._lock:
            return folder in self._lost

    def holds(self, folder: str) -> bool:
        """Whether a lease that was acquired here is still ours; looks. Of a store that does not
        answer nothing is known, and it is taken to be."""
        try:
            return token_of(self._fs, folder) == self._token
        except OSError:
            return True

    def release(self, folder: str) -> None:
        """Give one lease back."""
        with self._lock:
            held = self._held.pop(folder, None)
            self._lost.discard(folder)
        if held is not None:
            self._delete(self._path(folder))

    def close(self) -> None:
        """Give all leases back and stop the heartbeat."""
        self._stop.set()
        with self._lock:
            held = list(self._held)
        for folder in held:
            self.release(folder)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            with self._lock:
                held: list[tuple[str, Any]] = list(self._held.items())
            for folder, number in held:
                with contextlib.suppress(OSError):  # the next beat tries again
                    self._beat_one(folder, number)

    def _beat_one(self, folder: str, number: int) -> None:
        info = self._fs.get_file_info(self._path(folder))
        if info.type == pafs.FileType.File:
            self._write(folder, number)
            with self._lock:
                gone = folder not in self._held
            if gone:  # given back while we wrote
                self._delete(self._path(folder))
            return
        with self._lock:  # taken over: whoever took it had seen no beat for long
            if self._held.pop(folder, None) is not None:
                self._lost.add(folder)
