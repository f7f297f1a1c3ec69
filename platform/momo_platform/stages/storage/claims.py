"""Who wants and who has a lease on an object store: one object for each in the folder `lease`.

`bakery.py` writes one for each driver, `conditional.py` the one of whoever holds. Both look at
all, so drivers of both kinds never hold one lease at the same time.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from typing import Any

import pyarrow.fs as pafs

from momo_platform.stages.liveness import OLD_SECONDS, SILENT_SECONDS, ProcessIdentity
from momo_platform.stages.storage.leases import Leases
from momo_platform.stages.storage.patience import may_pass, patiently

FOLDER = "lease"
_READS = 10


@dataclass(frozen=True)
class Claim:
    """One driver's object at `path`: `number` 0 while it chooses, below 0 for a conditional one.
    `sign` changes with every heartbeat; `written` is when that was, by the store's clock."""

    path: str
    token: str
    number: int
    process: ProcessIdentity
    sign: str
    written: float

    @property
    def order(self) -> tuple[int, str]:
        """The lowest among the living holds the lease."""
        return self.number, self.token


def claim_of(path: str, content: dict[str, Any], written: float) -> Claim:
    """From what lies at `path`; the token is in its name unless it says one."""
    name = path.rpartition("/")[2].removesuffix(".json")
    return Claim(
        path,
        str(content.get("token", name)),
        int(content["number"]),
        ProcessIdentity.read(content),
        f"{content.get('beat')} {written}",
        written,
    )


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
        content = patiently(lambda path=info.path: _read_once(fs, path))
        if content is not None:
            written = info.mtime.timestamp() if info.mtime else 0.0
            claims.append(claim_of(info.path, content, written))
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
    return str(min(living, key=lambda c: c.order).process) if living else None


def token_of(fs: pafs.FileSystem, folder: str) -> str | None:
    """The token of the lease's holder, or None. The dead count too: a silent driver that nobody
    has replaced still holds its lease."""
    numbered = [c for c in read_claims(fs, folder) if c.number]
    return min(numbered, key=lambda c: c.order).token if numbered else None


class ObjectLeases(Leases):
    """Of one driver, on an object store."""

    poll_seconds = look_seconds = 2.0

    def __init__(self, fs: pafs.FileSystem) -> None:
        self._fs = fs
        super().__init__()

    def _others(self, folder: str) -> list[Claim]:
        """Living claims of other drivers; dead ones are deleted."""
        living = []
        for claim in read_claims(self._fs, folder):
            if claim.token == self._token:
                continue
            if self._is_dead(folder, claim):
                self._delete(claim.path)
                self._watch.forget((folder, claim.token))
            else:
                living.append(claim)
        return living

    def _is_dead(self, folder: str, claim: Claim) -> bool:
        silent = self._watch.silent((folder, claim.token), claim.sign) >= SILENT_SECONDS
        return silent or claim.process.is_gone

    def _delete(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            patiently(lambda: self._fs.delete_file(path))

    def _is_seen_alive(self, folder: str) -> bool:
        claims = [c for c in read_claims(self._fs, folder) if c.token != self._token]
        return any(c.process.is_here or self._watch.changes((folder, c.token)) for c in claims)

    def _token_at(self, folder: str) -> str | None:
        return token_of(self._fs, folder)
