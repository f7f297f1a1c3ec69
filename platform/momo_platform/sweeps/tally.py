"""How far a sweep is: trials that run and have ended, the best one, the time left."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from momo_platform.console import progress_text
from momo_platform.stages.time_left import trials_left
from momo_platform.sweeps.rows import TrialRow
from momo_platform.sweeps.sweep import Sweep

if TYPE_CHECKING:
    from rich.text import Text


class TrialTally:
    """Of one sweep; trials by their labels. `concurrency` is how many run at once."""

    def __init__(self, sweep: Sweep, concurrency: int) -> None:
        self._sweep, self._concurrency, self._begun = sweep, concurrency, time.time()
        self.finished = self.failed = 0
        self.best: tuple[float, str] | None = None
        self._running: dict[str, Mapping[str, Any]] = {}  # what each said last
        self._ended: set[str] = set()
        self._began: dict[str, float] = {}
        self._took: list[float] = []  # seconds of the trials that ended

    def know(self, rows: Iterable[TrialRow]) -> None:
        """Rows of earlier commands that still hold."""
        for row in rows:
            self.finished += 1
            if row.seconds > 0 and row.state != "failed":
                self._took.append(row.seconds)
            found = row.estimate(self._sweep.metric) if row.state == "done" else None
            if found is not None:
                self.compare(found.mean, row.label)

    def begin(self, label: str) -> None:
        """A trial starts."""
        self._ended.discard(label)
        self._began[label] = time.monotonic()

    def hear(self, label: str, message: Mapping[str, Any]) -> bool:
        """What a trial said; whether it still runs. Its last words may come after its end."""
        runs = label not in self._ended
        if runs:
            self._running[label] = message
        return runs

    def end(self, label: str, seconds: float, *, failed: bool) -> None:
        """A trial is over."""
        self._running.pop(label, None)
        self._ended.add(label)
        self.finished += 1
        self.failed += failed
        if not failed:
            self._took.append(seconds)

    def compare(self, value: float, label: str) -> None:
        """A trial's value, which may be the best."""
        sign = 1.0 if self._sweep.mode == "max" else -1.0
        if self.best is None or sign * value > sign * self.best[0]:
            self.best = (value, label)

    def _seconds_of(self, label: str) -> float:
        now = time.monotonic()
        return now - self._began.get(label, now)

    def text(self) -> Text:
        """A line for people, and one for each stage that runs."""
        from rich.text import Text

        trials = self._sweep.trials
        best = f", best {self.best[0]:.4g} ({self.best[1]})" if self.best else ""
        failed = f", {self.failed} failed" if self.failed else ""
        going = [self._seconds_of(label) for label in self._running]
        waiting = max(0, trials - self.finished - len(going))
        found = trials_left(self._took, going, waiting, self._concurrency)
        left = f", {found}" if found and self.finished < trials else ""
        text = Text(f"{self.finished} of {trials} trials done{failed}{best}{left}")
        for label, message in self._running.items():
            for stage, progress in message["stages"].items():
                shown = progress_text(progress) or progress["state"]
                text.append(f"\n  {label}, seed {message['seed']}, {stage}  {shown}")
        return text

    def document(self, state: str) -> dict[str, Any]:
        """The same for the dashboard."""
        running = [
            {
                "label": label,
                "seed": message["seed"],
                "seconds": round(self._seconds_of(label), 1),
                "stages": message["stages"],
            }
            for label, message in self._running.items()
            if state == "running"
        ]
        return {
            **{"name": self._sweep.name, "state": state, "started": self._begun},
            **{"trials": self._sweep.trials, "finished": self.finished, "failed": self.failed},
            **{"concurrency": self._concurrency, "running": running},
        }
