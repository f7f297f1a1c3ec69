"""A run's state as a small JSON file beside its log: what the dashboard shows of it, and whether it
still goes on."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from momo_platform.files import write_whole
from momo_platform.stages.liveness import ProcessIdentity, Watch

if TYPE_CHECKING:
    from momo_platform.stages.status import StageStatus

State = Literal["running", "ended", "failed", "interrupted", "killed"]
_EVERY_SECONDS = 2.0
_SILENT_SECONDS = 60.0  # of a run that can't be seen from here, after which it counts as killed
_KIND = "run"
_watch = Watch()


def holder() -> dict[str, Any]:
    """Who writes a record: what `state_of` needs to tell whether it still lives."""
    return ProcessIdentity.own().asdict() | {"updated": time.time()}


def state_of(document: Mapping[str, Any]) -> State:
    """What a record says; 'killed' where it says 'running' and its process is gone, or silent.

    At the first look at a record of a process that can't be seen from here, clocks are compared;
    from the second on it runs if it was written again, whatever they say.
    """
    state: State = document["state"]
    if state != "running":
        return state
    process, updated = ProcessIdentity.read(document), float(document["updated"])
    if process.is_gone:
        return "killed"
    if process.is_here:
        return "running"
    who = process, document.get("name")
    silent = _watch.silent(who, updated)
    old = not _watch.changes(who) and abs(time.time() - updated) >= _SILENT_SECONDS
    return "killed" if old or silent >= _SILENT_SECONDS else "running"


def ended_as(error: type[BaseException] | None) -> State:
    """How a run ended that leaves its context with this error."""
    if error is None:
        return "ended"
    return "interrupted" if issubclass(error, KeyboardInterrupt) else "failed"


class RunRecord:
    """A context manager; called with every status, it writes `file` every two seconds."""

    def __init__(self, file: Path, command: str) -> None:
        self.file = file
        self._document: dict[str, Any] = {
            **{"kind": _KIND, "name": file.stem, "command": command, "state": "running"},
            **{"started": time.time(), "job": "starting", "stages": []},
        }
        self._next = 0.0

    def __enter__(self) -> RunRecord:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._write()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._document["state"] = ended_as(error)
        self._write()

    def __call__(self, statuses: Sequence[StageStatus], job: str) -> None:
        self._document |= {"job": job, "stages": [_told(s) for s in statuses]}
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY_SECONDS
            self._write()

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # a full disk is told by the stage that it stops
            write_whole(self.file, json.dumps(self._document | holder()), durably=False)


def _told(status: StageStatus) -> dict[str, Any]:
    lines = status.error.strip().splitlines()
    return {
        "name": status.entry.name,
        "fingerprint": status.entry.fingerprint,
        "state": status.state,
        "seconds": round(status.seconds, 1),
        "detail": lines[-1] if lines else status.detail,
        "machine": status.machine,
        "progress": dict(status.progress),
    }


def read_record(file: Path) -> dict[str, Any] | None:
    """A record with its state as it is now; None for a file that is none, or half of one."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        return document | {"state": state_of(document)}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def run_records(logs: Path) -> list[dict[str, Any]]:
    """Of all runs that logged to the folder: those that go on first, then the newest."""
    found = [r for f in logs.glob("*.json") if (r := read_record(f)) and r.get("kind") == _KIND]
    return sorted(found, key=lambda r: (r["state"] != "running", -r["started"]))
