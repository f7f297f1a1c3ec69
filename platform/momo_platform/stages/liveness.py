"""Whether another process still lives, told without any clock but this process's steady one.

A process number alone says nothing: two containers with the host's name count their processes each
for itself, and numbers are given again. So a process is known to be gone only where its system
start, its namespace and its own start say that the number is its. Of any other process only its
signs of life tell: they change, or they stay the same while this process watches. Neither wall
clocks that differ or are set, nor a laptop's sleep, look like silence then: the steady clock
(`time.monotonic`) stands still in sleep on Linux and macOS, and a gap between two looks counts as
one beat at most, because whoever did not look may have been stopped together with whom it watches.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

HEARTBEAT_SECONDS = 5.0
SILENT_SECONDS = 30.0
OLD_SECONDS = 3600.0
"""Where nobody can watch: a sign so old, by the storage's own clock, is one of the dead."""
_PROC = Path("/proc")


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    """Those of process numbers and of times since the system's start, 'pid:[4026531836] time:[…]';
    '' where the system does not tell."""
    own = _PROC / "self" / "ns"
    try:
        return " ".join(os.readlink(own / n) for n in ("pid", "time") if os.path.lexists(own / n))
    except OSError:
        return ""


def _state_and_start(pid: int | str) -> tuple[str, str]:
    """A process's state ('Z' for one that is dead and not yet collected) and when it started, in
    ticks since the system's start; empty where /proc does not tell."""
    fields = _text(_PROC / str(pid) / "stat").rpartition(")")[2].split()
    return (fields[0], fields[19]) if len(fields) > 19 else ("", "")


@dataclass(frozen=True)
class ProcessIdentity:
    """One process among all of all machines. `boot`: of this start of the system; `namespace`: of
    process numbers and times; `start_ticks`: in ticks since that start. All three are empty where
    /proc is missing."""

    host: str
    pid: int
    boot: str = ""
    namespace: str = ""
    start_ticks: str = ""

    @classmethod
    def own(cls) -> ProcessIdentity:
        """This process."""
        return cls(
            socket.gethostname(),
            os.getpid(),
            _text(_PROC / "sys" / "kernel" / "random" / "boot_id"),
            _namespace(),
            _state_and_start("self")[1],
        )

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> ProcessIdentity:
        """From what `asdict` made of it; what is missing (older files) is unknown."""
        return cls(
            str(document.get("host", "")),
            int(document.get("pid", 0)),
            *(str(document.get(name, "")) for name in ("boot", "namespace", "start_ticks")),
        )

    def asdict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.host}, process {self.pid}" if self.host else "another driver"

    @property
    def is_here(self) -> bool:
        """Whether it can be seen from this process: the same system start and namespace."""
        own = ProcessIdentity.own()
        known = bool(self.boot and self.namespace and self.start_ticks)
        return known and (self.boot, self.namespace) == (own.boot, own.namespace)

    @property
    def is_gone(self) -> bool:
        """True only where it is certain; False also of a process that can't be seen from here."""
        if not self.is_here:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # another user's
            pass
        if os.readlink(_PROC / "self") != str(os.getpid()):
            return False  # this /proc is of another namespace: its numbers are not ours
        state, start_ticks = _state_and_start(self.pid)
        return state == "Z" or (start_ticks != "" and start_ticks != self.start_ticks)

    @property
    def fate(self) -> Literal["runs", "gone", "unknown"]:
        """'unknown' where it can't be told from here."""
        if self.is_gone:
            return "gone"
        return "runs" if self.is_here else "unknown"


class _Look(NamedTuple):
    """The last look at one's sign: when, and for how long it had been seen the same by then."""

    sign: Hashable
    at: float
    silent: float = 0.0
    changes: int = 0


class Watch:
    """How long the signs of life of others have stayed the same while this process looked."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[Hashable, _Look] = {}

    def silent(self, who: Hashable, sign: Hashable) -> float:
        """Seconds for which `who` has shown this `sign`, by the looks so far; 0 at the first."""
        now = self._clock()
        before = self._seen.get(who)
        if before is None:
            look = _Look(sign, now)
        elif before.sign == sign:
            gap = min(now - before.at, HEARTBEAT_SECONDS)
            look = before._replace(at=now, silent=before.silent + gap)
        else:
            look = _Look(sign, now, changes=before.changes + 1)
        self._seen[who] = look
        return look.silent

    def changes(self, who: Hashable) -> int:
        """How many new signs were seen since the first look."""
        return self._seen[who].changes if who in self._seen else 0

    def forget(self, who: Hashable) -> None:
        """Begin anew with it."""
        self._seen.pop(who, None)
