"""One trial, inside its Tune actor: a graph a seed, shared stages taken from the storage."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from momo_platform.stages import StageFailed, UserError, make_plan, open_storage
from momo_platform.stages.executor import execute
from momo_platform.stages.fingerprint import fingerprint
from momo_platform.stages.stage import all_stages
from momo_platform.stages.status import FINISHED, StageStatus
from momo_platform.sweeps.rows import State, TrialRow
from momo_platform.sweeps.sweep import Settings, Sweep, numbers

_HISTORY = "history.json"
_BOARD_SECONDS = 1.0
ROW, STEP, WATCHED = "row", "step", "watched"
NUMBER, HISTORY_LENGTH = "number", "segments"
"""What a trial reports to Tune beside the sweep's metric: its row as JSON (at the end of each
segment), and the step and the loss that it is compared by while it trains."""


class Watcher:
    """The executor's display: tells the driver what runs, and Tune the loss that ASHA compares."""

    def __init__(self, sweep: Sweep, label: str, seed: int, board: Any) -> None:
        self.sweep, self.label, self.seed, self.board = sweep, label, seed, board
        self.reported, self.next_message = -1, 0.0
        self.compared = sweep.stopping.method == "asha" and seed == sweep.seeds[0]

    def __call__(self, statuses: Sequence[StageStatus]) -> None:
        over = all(s.state in FINISHED for s in statuses)
        if over or time.monotonic() >= self.next_message:
            self.next_message = time.monotonic() + _BOARD_SECONDS
            running = [s for s in statuses if s.state in ("running", "starting", "leased")]
            stages = {
                s.entry.name: dict(s.progress) | {"state": s.state, "machine": s.machine}
                for s in running
            }
            ended = {s.entry.name: dict(s.progress) for s in statuses if s.state == "done"}
            message = {"seed": self.seed, "stages": stages, "ended": ended}
            self.board.report.remote(self.label, message)
        if self.compared:
            self._compare(statuses)

    def _compare(self, statuses: Sequence[StageStatus]) -> None:
        from ray import tune

        stopping = self.sweep.stopping
        for status in statuses:
            losses = status.progress.get("metrics", {})
            step = status.progress.get("step", 0)
            if (
                status.entry.name == stopping.stage
                and stopping.loss in losses
                and self.reported < step < stopping.steps
            ):
                self.reported = step
                watched = {STEP: step, WATCHED: losses[stopping.loss]}
                tune.report({**watched, self.sweep.metric: float("nan")})


def run_trial(parameters: Settings, sweep: Sweep, storage_uri: str, board: Any) -> None:
    """What Tune calls: runs the trial's graphs and reports their mean.

    With `pbt` a trial's checkpoint is the settings of its segments so far: a trial that takes over
    another's goes on from that one's artifacts. Raises RuntimeError with a failed stage's name and
    error, so that the trial is a failed row.
    """
    from ray import tune

    settings = dict(sweep.settings(parameters))
    history = _history(tune.get_checkpoint())
    while len(history) < sweep.segments:
        history.append(settings)
        started = time.monotonic()
        row = _run_seeds(sweep, sweep.label(parameters), history, storage_uri, board)
        row |= {"history": history, "seconds": time.monotonic() - started}
        values = [v[sweep.metric] for v in row["seeds"].values() if sweep.metric in v]
        if len(values) < len(sweep.seeds):
            known = sorted({name for v in row["seeds"].values() for name in v})
            raise RuntimeError(
                f"no metric {sweep.metric} of every seed; there are {', '.join(known) or 'none'}"
            )
        mean = sum(values) / len(values)
        steps = sweep.stopping.steps or 1
        report = {
            **{sweep.metric: mean, ROW: json.dumps(row), STEP: steps, WATCHED: float("nan")},
            HISTORY_LENGTH: len(history),
        }
        if not sweep.is_population:
            tune.report(report)
            continue
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / _HISTORY).write_text(json.dumps(history), encoding="utf-8")
            tune.report(report, checkpoint=tune.Checkpoint.from_directory(folder))


def _history(checkpoint: Any) -> list[dict[str, Any]]:
    if checkpoint is None:
        return []
    with checkpoint.as_directory() as folder:
        return json.loads((Path(folder) / _HISTORY).read_text(encoding="utf-8"))


def _run_seeds(
    sweep: Sweep, label: str, history: Sequence[Settings], storage_uri: str, board: Any
) -> dict[str, Any]:
    storage = open_storage(storage_uri)
    seeds: dict[str, Mapping[str, float]] = {}
    stages: dict[str, Mapping[str, str]] = {}
    for seed in sweep.seeds:
        try:
            target = sweep.build(sweep.base, history, seed)
            plan = make_plan([target], storage)
            if plan.to_run:
                execute(plan, storage, Watcher(sweep, label, seed, board))
        except (StageFailed, UserError) as error:
            raise RuntimeError(f"seed {seed}: {error}") from error
        known: dict[str, str] = {}
        prints = {s.name: fingerprint(s, known) for s in all_stages([target])}
        manifest = storage.manifest(target.name, prints[target.name])
        assert manifest is not None
        seeds[str(seed)] = numbers(manifest.metrics)
        stages[str(seed)] = prints
    return {"seeds": seeds, "stages": stages}


def trial_name(number: int) -> str:
    """Of a trial that is known beforehand: the same in every run."""
    return f"{number:05d}"


def parameters_from(sweep: Sweep, config: Mapping[str, Any]) -> Settings:
    """A Tune trial's config → the parameters that it stands for."""
    number = config.get(NUMBER)
    return sweep.parameter_sets()[number] if number is not None else dict(config)


def row_of(
    sweep: Sweep,
    trial: str,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, Any] | None,
    failure: BaseException | None,
) -> TrialRow:
    """One trial's row from what it last reported."""
    metrics = metrics or {}
    row = json.loads(metrics[ROW]) if ROW in metrics else {}
    whole = len(row.get("history", [])) >= sweep.segments
    state: State = "done" if row and whole else "stopped" if STEP in metrics else "not run"
    error = ""
    if failure is not None:
        state, error = "failed", _told(failure)
    if row and sweep.is_population:
        parameters = row["history"][-1]
    return TrialRow(
        trial=trial,
        label=sweep.label(parameters),
        parameters=parameters,
        history=row.get("history", [dict(sweep.settings(parameters))]),
        state=state,
        seeds=row.get("seeds", {}),
        stages=row.get("stages", {}),
        seconds=float(row.get("seconds", metrics.get("time_total_s", 0.0))),
        steps=int(metrics.get(STEP, 0)),
        error=error,
    )


def _told(error: BaseException) -> str:
    """The message of what the trial raised, without the frames around it."""
    lines = str(error).strip().splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("RuntimeError: ")]
    if starts:
        return "\n".join(lines[starts[-1] :]).removeprefix("RuntimeError: ")
    return lines[-1] if lines else repr(error)
