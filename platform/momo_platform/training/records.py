"""A run's log: JSON lines always, and trackers when asked for. No torch."""

from __future__ import annotations

import fnmatch
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from momo_platform.files import write_whole
from momo_platform.training.config import LoggingConfig
from momo_platform.training.trackers import RunIdentity, open_trackers

logger = logging.getLogger(__name__)
FILE_NAME = "metrics.jsonl"
SKIPPED_FILE_NAME = "skipped.jsonl"
PROFILE_FILE_NAME = "profile.json.gz"


def read_records(file: Path | bytes) -> list[dict[str, Any]]:
    """All whole lines of a `metrics.jsonl`, or of its content; a line cut off by a crash is the
    last and is left."""
    records = []
    if isinstance(file, Path):
        file = file.read_bytes() if file.exists() else b""
    for line in file.decode(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def last_values(path: Path) -> dict[str, float]:
    """The last of each value that a run recorded, but for those before its first step: what a run
    that goes on from there has measured, also where no step is left."""
    found: dict[str, float] = {}
    for record in read_records(path):
        if record["step"]:
            found |= {k: v for k, v in record.items() if k != "step" and v is not None}
    return found


def read_curves(
    file: Path | bytes, patterns: Sequence[str]
) -> dict[str, list[tuple[float, float]]]:
    """Record's name → its (step, value), of the names that match a pattern; null is left out."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for record in read_records(file):
        for key, value in record.items():
            if value is not None and any(fnmatch.fnmatchcase(key, p) for p in patterns):
                curves.setdefault(key, []).append((record["step"], value))
    return curves


def _drop_after(path: Path, step: int) -> list[dict[str, Any]]:
    """Keep the records up to `step`, none for 0; killed in the middle, the file is the old or the
    new one. Returns what is kept."""
    kept = [r for r in read_records(path) if step and r["step"] <= step]
    write_whole(path, "".join(json.dumps(r) + "\n" for r in kept))
    return kept


class RunLog:
    """Appends records to `<folder>/metrics.jsonl` and gives them to the trackers; a resumed run
    drops what came after its step.

    `skipped.jsonl` beside it names the batches of steps that were skipped.
    """

    def __init__(
        self,
        folder: Path,
        start_step: int,
        config: LoggingConfig,
        run: RunIdentity,
        say: Callable[[str], None] = logger.warning,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE_NAME
        self._skipped = folder / SKIPPED_FILE_NAME
        kept = _drop_after(path, start_step)
        if self._skipped.exists():
            _drop_after(self._skipped, start_step)
        self._trackers = open_trackers(folder, kept, config, run, say)
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One record; non-finite values are written as null so that the file stays JSON."""
        finite = {k: v for k, v in values.items() if math.isfinite(v)}
        line = {"step": step, **{k: finite.get(k) for k in values}}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for tracker in self._trackers:
            tracker.log(step, finite)

    def write_skipped(self, step: int, details: Mapping[str, Any]) -> None:
        """One step without an update, and whose fault it was."""
        with self._skipped.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **details}) + "\n")

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self.close(failed=error is not None)

    def close(self, *, failed: bool = False) -> None:
        """End the trackers' runs; `failed` where the run did not reach its end."""
        self._file.close()
        for tracker in self._trackers:
            tracker.close(failed=failed)
