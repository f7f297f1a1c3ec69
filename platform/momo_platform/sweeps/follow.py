"""What a person sees of a running sweep: a line a trial, a live line of what runs, TensorBoard, and
a record for the dashboard."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from momo_platform.console import duration, progress_text
from momo_platform.files import write_whole
from momo_platform.stages.board import Board
from momo_platform.stages.run_record import ended_as, holder
from momo_platform.stages.time_left import trials_left
from momo_platform.sweeps.rows import Row
from momo_platform.sweeps.study import add_row
from momo_platform.sweeps.sweep import Settings, Sweep
from momo_platform.sweeps.trial import NUMBER, ROW, parameters_from, row_of, trial_name

if TYPE_CHECKING:
    from rich.text import Text

    from momo_platform.stages.in_use import InUse

_POLL_SECONDS = 1.0
_PLAIN_SECONDS = 60.0
_RECORD_SECONDS = 2.0
_MOST_POINTS = 200
TENSORBOARD, ROWS, RECORD = "tensorboard", "rows", "status.json"


class Follower:
    """A context manager; `board` is where trials report, `end` is what Tune's callback calls.

    Every ended trial goes to the Optuna `study` at once, so that its dashboard is live, and to
    `rows/`, from where `rows` has what ended in earlier runs, failures left out. `status.json` says
    what runs, every two seconds; `concurrency` is how many trials run at once. The artifacts of
    ended trials are kept `in_use`: the report, and later segments, read them.
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
        self._in_use = in_use
        self.failed = 0
        self.best: tuple[float, str] | None = None
        self.started: dict[str, float] = {}
        self._folder_of_rows = folder / ROWS
        self.rows: dict[str, Row] = self._known_rows()
        self._configs: dict[str, Mapping[str, Any]] = {}
        self.finished = 0
        self._running: dict[str, Mapping[str, Any]] = {}
        self._ended: set[str] = set()
        self._writers: dict[str, Any] = {}
        self._drawn: dict[str, int] = {}
        self._concurrency, self._begun = concurrency, time.time()
        self._began: dict[str, float] = {}  # label → when its trial started
        self._curves: dict[str, dict[str, dict[str, list[tuple[int, float]]]]] = {}
        self._took: list[float] = []  # seconds of the trials that ended
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
        self._hold(self.rows.values())
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
        for writer in self._writers.values():
            writer.close()

    def say(self, line: str) -> None:
        """One line that stays."""
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=self.stream, flush=True)

    def know(self, rows: Iterable[Row]) -> None:
        """Rows of earlier commands that still hold."""
        for row in rows:
            self.finished += 1
            if row.seconds > 0 and row.state != "failed":
                self._took.append(row.seconds)
            found = row.estimate(self.sweep.metric) if row.state == "done" else None
            if found is not None:
                self._is_best(found.mean, row.label)

    def _known_rows(self) -> dict[str, Row]:
        found = {}
        for file in sorted(self._folder_of_rows.glob("*.json")):
            try:
                row = Row(**json.loads(file.read_text(encoding="utf-8")))
            except (ValueError, TypeError):  # cut off by a crash: its trial runs again
                continue
            found[row.trial] = row
        return found

    def begin(self, trial: Any) -> None:
        """A trial starts."""
        self.started.setdefault(trial.trial_id, time.monotonic())
        self._configs[trial.trial_id] = dict(trial.config)
        label = self._label(trial)
        with self._lock:
            self._ended.discard(label)
            self._began[label] = time.monotonic()

    def _label(self, trial: Any) -> str:
        return self.sweep.label(self.parameters_of(trial.trial_id, trial.config))

    def parameters_of(self, trial_id: str, config: Mapping[str, Any]) -> Settings:
        """What a trial was given; `config` where its start was not seen."""
        return parameters_from(self.sweep, self._configs.get(trial_id, config))

    def name_of(self, trial_id: str) -> str:
        """The row's name: a number that stays the same in every run, where trials are a list."""
        number = self._configs.get(trial_id, {}).get(NUMBER)
        return trial_id if number is None else trial_name(number)

    def _hold(self, rows: Iterable[Row]) -> None:
        """Their artifacts are not collected while the sweep runs."""
        if self._in_use is not None:
            self._in_use.add(
                k for r in rows for stages in r.stages.values() for k in stages.items()
            )

    def _keep(self, row: Row) -> None:
        """The row for a later run, and for the study."""
        self._hold([row])
        if row.state in ("done", "stopped") and not self.sweep.is_population:
            self._folder_of_rows.mkdir(exist_ok=True)
            file = self._folder_of_rows / f"{row.trial}.json"
            write_whole(file, json.dumps(asdict(row)))
        try:
            add_row(self.study, self.sweep, row)
        except Exception as error:  # noqa: BLE001 - a database that is locked or gone costs no trial
            self.say(f"the study has no row of {row.label}: {error}")

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
        """Label → what its trial said last; the text to show then. A trial's last words may come
        after its end: they give its curves their last point, nothing else."""
        with self._lock:
            for label, message in news.items():
                if label not in self._ended:
                    self._running[label] = message
                self._draw_curves(label, message)
            return self._text()

    def record(self, state: str) -> None:
        """Write what the dashboard shows while the sweep runs."""
        with self._lock:
            running = [
                {
                    "label": label,
                    "seed": message["seed"],
                    "seconds": round(
                        time.monotonic() - self._began.get(label, time.monotonic()), 1
                    ),
                    "stages": message["stages"],
                    "curves": self._curves.get(label, {}),
                }
                for label, message in self._running.items()
                if state == "running"
            ]
            document = {
                **{"name": self.sweep.name, "state": state, "started": self._begun},
                **{"trials": self.sweep.trials, "finished": self.finished, "failed": self.failed},
                **{"concurrency": self._concurrency, "running": running},
            }
            text = json.dumps(document | holder())
        with contextlib.suppress(OSError):  # a full disk ends the stage that it stops, not this
            write_whole(self.folder / RECORD, text, durably=False)

    def _seconds_of(self, label: str) -> float:
        now = time.monotonic()
        return now - self._began.get(label, now)

    def _text(self) -> Text:
        from rich.text import Text

        best = f", best {self.best[0]:.4g} ({self.best[1]})" if self.best else ""
        failed = f", {self.failed} failed" if self.failed else ""
        going = [
            time.monotonic() - self._began.get(label, time.monotonic()) for label in self._running
        ]
        waiting = max(0, self.sweep.trials - self.finished - len(going))
        found = trials_left(self._took, going, waiting, self._concurrency)
        left = f", {found}" if found and self.finished < self.sweep.trials else ""
        text = Text(f"{self.finished} of {self.sweep.trials} trials done{failed}{best}{left}")
        for label, message in self._running.items():
            for stage, progress in message["stages"].items():
                shown = progress_text(progress) or progress["state"]
                text.append(f"\n  {label}, seed {message['seed']}, {stage}  {shown}")
        return text

    def _draw_curves(self, label: str, message: Mapping[str, Any]) -> None:
        for stage, progress in {**message.get("ended", {}), **message["stages"]}.items():
            losses, step = progress.get("metrics"), progress.get("step")
            name = f"{label}/seed-{message['seed']}/{stage}"
            if not losses or not step or self._drawn.get(name) == step:
                continue
            self._drawn[name] = step
            if name not in self._writers:
                from tensorboardX import SummaryWriter

                self._writers[name] = SummaryWriter(str(self.folder / TENSORBOARD / name))
            for key, value in losses.items():
                self._writers[name].add_scalar(f"loss/{key}", value, step)
                self._keep_point(label, stage, key, step, value)
            self._writers[name].flush()

    def _keep_point(self, label: str, stage: str, key: str, step: int, value: float) -> None:
        """For the dashboard's small curves: of a trial that runs, every second point when there are
        many."""
        if label in self._ended:
            return
        points = self._curves.setdefault(label, {}).setdefault(stage, {}).setdefault(key, [])
        points.append((step, value))
        if len(points) > _MOST_POINTS:
            del points[1::2]

    def _is_best(self, value: float, label: str) -> None:
        sign = 1.0 if self.sweep.mode == "max" else -1.0
        if self.best is None or sign * value > sign * self.best[0]:
            self.best = (value, label)

    def end(self, trial: Any, *, failed: bool) -> None:
        """A trial is over."""
        parameters, label = self.parameters_of(trial.trial_id, trial.config), self._label(trial)
        result = trial.last_result or {}
        now = time.monotonic()
        seconds = now - self.started.get(trial.trial_id, now)
        with self._lock:
            self._running.pop(label, None)
            self._curves.pop(label, None)
            self._ended.add(label)
            self.finished += 1
            self.failed += failed
            if not failed:
                self._took.append(seconds)
        value = result.get(self.sweep.metric, float("nan"))
        if failed:
            told = "failed, its error is in results.json and in the report"
        elif ROW not in result:
            told = f"stopped at step {result.get('step', 0)}"
        else:
            told = f"{self.sweep.metric} {value:.4g}"
            self._is_best(value, label)
        failure = RuntimeError("failed") if failed else None
        name = self.name_of(trial.trial_id)
        self._keep(row_of(self.sweep, name, parameters, result, failure))
        self.say(f"[{self.finished}/{self.sweep.trials}] {label}: {told}, {duration(seconds)}")
