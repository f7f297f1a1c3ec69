"""What a person sees of a running sweep: a line a trial, a live line of what runs, TensorBoard."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from momo_platform.console import duration, progress_text
from momo_platform.stages.board import Board
from momo_platform.sweeps.study import add_row
from momo_platform.sweeps.sweep import Sweep
from momo_platform.sweeps.trial import ROW, row_of

if TYPE_CHECKING:
    from rich.text import Text

_POLL_SECONDS = 1.0
_PLAIN_SECONDS = 30.0
TENSORBOARD = "tensorboard"


class Follower:
    """A context manager; `board` is where trials report, `end` is what Tune's callback calls.

    Every ended trial goes to the Optuna `study` at once, so that its dashboard is live.
    """

    def __init__(
        self, sweep: Sweep, folder: Path, stream: TextIO, study: Any, *, verbose: bool
    ) -> None:
        self.sweep, self.folder, self.stream, self.study = sweep, folder, stream, study
        self.finished = self.failed = 0
        self.best: tuple[float, str] | None = None
        self.started: dict[str, float] = {}
        self._running: dict[str, Mapping[str, Any]] = {}
        self._writers: dict[str, Any] = {}
        self._lock, self._end = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._live: Any = None
        self._shows_live = stream.isatty() and not verbose
        self._next_line = time.time() + _PLAIN_SECONDS

    def __enter__(self) -> Follower:
        import ray

        self.board = ray.remote(num_cpus=0)(Board).remote()
        if self._shows_live:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(file=self.stream), auto_refresh=False)
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        for writer in self._writers.values():
            writer.close()
        if self._live is not None:
            self._live.stop()

    def say(self, line: str) -> None:
        """One line that stays."""
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=self.stream, flush=True)

    def _follow(self) -> None:
        import ray

        while not self._end.wait(_POLL_SECONDS):
            try:
                news = ray.get(self.board.drain.remote(), timeout=5)
            except Exception:  # noqa: BLE001 - Ray is ending, or is busy: the sweep does not depend on it
                continue
            with self._lock:
                for label, message in news.items():
                    self._running[label] = message
                    self._draw_curves(label, message)
                text = self._text()
            if self._live is not None:
                self._live.update(text, refresh=True)
            elif time.time() >= self._next_line:
                self._next_line = time.time() + _PLAIN_SECONDS
                print(text.plain, file=self.stream, flush=True)

    def _text(self) -> Text:
        from rich.text import Text

        best = f", best {self.best[0]:.4g} ({self.best[1]})" if self.best else ""
        failed = f", {self.failed} failed" if self.failed else ""
        text = Text(f"{self.finished} of {self.sweep.trials} trials done{failed}{best}")
        for label, message in self._running.items():
            for stage, progress in message["stages"].items():
                shown = progress_text(progress) or progress["state"]
                text.append(f"\n  {label}, seed {message['seed']}, {stage}  {shown}")
        return text

    def _draw_curves(self, label: str, message: Mapping[str, Any]) -> None:
        for stage, progress in message["stages"].items():
            losses, step = progress.get("metrics"), progress.get("step")
            if not losses or not step:
                continue
            name = f"{label}/seed-{message['seed']}/{stage}"
            if name not in self._writers:
                from tensorboardX import SummaryWriter

                self._writers[name] = SummaryWriter(str(self.folder / TENSORBOARD / name))
            for key, value in losses.items():
                self._writers[name].add_scalar(f"loss/{key}", value, step)
            self._writers[name].flush()

    def end(self, trial: Any, *, failed: bool) -> None:
        """A trial is over."""
        label = self.sweep.label(trial.config)
        result = trial.last_result or {}
        seconds = time.time() - self.started.get(trial.trial_id, time.time())
        with self._lock:
            self._running.pop(label, None)
            self.finished += 1
            self.failed += failed
        value = result.get(self.sweep.metric)
        if failed:
            told = "failed, its error is in results.json and in the report"
        elif ROW not in result:
            told = f"stopped at step {result.get('step', 0)}"
        else:
            told = f"{self.sweep.metric} {value:.4g}"
            better = self.best is None or (
                value > self.best[0] if self.sweep.mode == "max" else value < self.best[0]
            )
            if better:
                self.best = (value, label)
        failure = RuntimeError("failed") if failed else None
        add_row(
            self.study,
            self.sweep,
            row_of(self.sweep, trial.trial_id, trial.config, result, failure),
        )
        self.say(f"[{self.finished}/{self.sweep.trials}] {label}: {told}, {duration(seconds)}")
