"""What a person sees of a running sweep: a line a trial, a live line of what runs, TensorBoard, and
a record for the dashboard."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from momo_platform.console import duration
from momo_platform.files import write_whole
from momo_platform.stages.board import Board
from momo_platform.stages.run_record import ended_as, holder
from momo_platform.sweeps.curves import Curves
from momo_platform.sweeps.folder import RECORD, ROWS, TENSORBOARD
from momo_platform.sweeps.kept_rows import KeptRows
from momo_platform.sweeps.rows import TrialRow
from momo_platform.sweeps.sweep import Settings, Sweep
from momo_platform.sweeps.tally import TrialTally
from momo_platform.sweeps.trial import NUMBER, ROW, parameters_from, row_of, trial_name

if TYPE_CHECKING:
    from rich.text import Text

    from momo_platform.stages.in_use import InUse

_POLL_SECONDS = 1.0
_PLAIN_SECONDS = 60.0
_RECORD_SECONDS = 2.0


class Follower:
    """A context manager; `board` is where trials report, `begin` and `end` are what Tune's callback
    calls.

    Every ended trial is among the `kept` rows; `status.json` says what runs, every two seconds.
    """

    def __init__(
        self,
        sweep: Sweep,
        folder: Path,
        stream: TextIO,
        study: Any,
        *,
        verbose: bool,
        concurrency: int = 1,
        in_use: InUse | None = None,
    ) -> None:
        self.sweep, self.folder, self.stream, self.study = sweep, folder, stream, study
        self.tally = TrialTally(sweep, concurrency)
        self.kept = KeptRows(sweep, folder / ROWS, study, in_use, self.say)
        self._curves = Curves(folder / TENSORBOARD)
        self._started: dict[str, float] = {}
        self._configs: dict[str, Mapping[str, Any]] = {}
        self._next_record = 0.0
        self._lock, self._end = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._live: Any = None
        self._shows_live = stream.isatty() and not verbose
        self._next_line = time.monotonic() + _PLAIN_SECONDS

    def __enter__(self) -> Follower:
        import ray

        self.board = ray.remote(num_cpus=0)(Board).remote()
        if self._shows_live:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(file=self.stream), auto_refresh=False)
            self._live.start()
        self.kept.hold(self.kept.found.values())
        self.record("running")
        self._thread.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self.record(ended_as(error))
        self.close()
        if self._live is not None:
            self._live.stop()

    def close(self) -> None:
        """End the curves' files."""
        self._curves.close()

    def say(self, line: str) -> None:
        """One line that stays."""
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=self.stream, flush=True)

    def know(self, rows: Iterable[TrialRow]) -> None:
        """Rows of earlier commands that still hold."""
        self.tally.know(rows)

    # -- Tune's trials -------------------------------------------------------------------------

    def begin(self, trial: Any) -> None:
        """A trial starts."""
        self._started.setdefault(trial.trial_id, time.monotonic())
        self._configs[trial.trial_id] = dict(trial.config)
        label = self._label(trial)
        with self._lock:
            self.tally.begin(label)

    def end(self, trial: Any, *, failed: bool) -> None:
        """A trial is over."""
        parameters, label = self.parameters_of(trial.trial_id, trial.config), self._label(trial)
        result = trial.last_result or {}
        now = time.monotonic()
        seconds = now - self._started.get(trial.trial_id, now)
        with self._lock:
            self._curves.forget(label)
            self.tally.end(label, seconds, failed=failed)
        value = result.get(self.sweep.metric, float("nan"))
        if failed:
            told = "failed, its error is in results.json and in the report"
        elif ROW not in result:
            told = f"stopped at step {result.get('step', 0)}"
        else:
            told = f"{self.sweep.metric} {value:.4g}"
            self.tally.compare(value, label)
        failure = RuntimeError("failed") if failed else None
        name = self.name_of(trial.trial_id)
        self.kept.keep(row_of(self.sweep, name, parameters, result, failure))
        of_all = f"{self.tally.finished}/{self.sweep.trials}"
        self.say(f"[{of_all}] {label}: {told}, {duration(seconds)}")

    def _label(self, trial: Any) -> str:
        return self.sweep.label(self.parameters_of(trial.trial_id, trial.config))

    def parameters_of(self, trial_id: str, config: Mapping[str, Any]) -> Settings:
        """What a trial was given; `config` where its start was not seen."""
        return parameters_from(self.sweep, self._configs.get(trial_id, config))

    def name_of(self, trial_id: str) -> str:
        """The row's name: a number that stays the same in every run, where trials are a list."""
        number = self._configs.get(trial_id, {}).get(NUMBER)
        return trial_id if number is None else trial_name(number)

    # -- what they report ----------------------------------------------------------------------

    def _follow(self) -> None:
        import ray

        while not self._end.wait(_POLL_SECONDS):
            try:
                news: Any = ray.get(self.board.drain.remote(), timeout=5)
            except Exception:  # noqa: BLE001 - Ray is ending, or is busy: the sweep does not depend on it
                continue
            text = self.take(news)
            if time.monotonic() >= self._next_record:
                self._next_record = time.monotonic() + _RECORD_SECONDS
                self.record("running")
            if self._live is not None:
                self._live.update(text, refresh=True)
            elif time.monotonic() >= self._next_line:
                self._next_line = time.monotonic() + _PLAIN_SECONDS
                print(text.plain, file=self.stream, flush=True)

    def take(self, news: Mapping[str, Mapping[str, Any]]) -> Text:
        """Label → what its trial said last; the text to show then. A trial's last words give its
        curves their last point, nothing else."""
        with self._lock:
            for label, message in news.items():
                runs = self.tally.hear(label, message)
                self._curves.draw(label, message, keeps=runs)
            return self.tally.text()

    def record(self, state: str) -> None:
        """Write what the dashboard shows while the sweep runs."""
        with self._lock:
            document = self.tally.document(state)
            for one in document["running"]:
                one["curves"] = self._curves.of(one["label"])
            text = json.dumps(document | holder())
        with contextlib.suppress(OSError):  # a full disk ends the stage that it stops, not this
            write_whole(self.folder / RECORD, text, durably=False)
