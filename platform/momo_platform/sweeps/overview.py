"""What goes on in a storage, read from its files: plain runs, sweeps, and who makes what.

Reads only: works while a sweep runs, after it has ended and after it was killed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from momo_platform.charts import COLOURS, colour_class, line_chart
from momo_platform.console import duration, progress_text
from momo_platform.stages.liveness import Watch
from momo_platform.stages.run_record import read_record, run_records
from momo_platform.stages.storage.local_leases import FILE_NAME as LEASE
from momo_platform.stages.storage.local_leases import holder
from momo_platform.stages.time_left import trials_left
from momo_platform.sweeps.folder import DEFINITION, RECORD, RESULTS, ROWS, SWEEPS
from momo_platform.sweeps.rows import TrialRow, best_of
from momo_platform.training.records import FILE_NAME, read_curves

_ENDED_RUNS = 5  # shown below those that go on
_LARGEST_LOG = 8 * 2**20  # of curves that are read again every few seconds
_OVER = ("done", "cached")
_watch = Watch()  # leases that nobody beats any more go from the page


@dataclass(frozen=True)
class Working:
    """A stage that runs now: where, how far (0 … 1, None: not told) and what it says."""

    stage: str
    machine: str
    share: float | None
    text: str
    trial: str = ""


@dataclass(frozen=True)
class Small:
    """A small chart with its title; `keys`: (name, class of its colour) of each line."""

    title: str
    svg: str
    keys: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class RunView:
    """A plain run: `job` says how far it is and the time left."""

    name: str
    command: str
    state: str
    since: str
    job: str
    done: int
    total: int
    machine: str
    working: Sequence[Working] = ()
    failed: Sequence[tuple[str, str]] = ()
    charts: Sequence[Small] = ()


@dataclass(frozen=True)
class SweepView:
    """A sweep: trials by what became of them; `best` in words, `left` the time left in words."""

    name: str
    state: str
    since: str
    total: int
    done: int
    stopped: int
    failed: int
    running: int
    metric: str
    best: str
    left: str
    has_report: bool
    working: Sequence[Working] = ()
    charts: Sequence[Small] = ()


@dataclass(frozen=True)
class Overview:
    """All of a storage. `leases`: stages that others make, who have no record here."""

    place: str
    runs: Sequence[RunView] = ()
    sweeps: Sequence[SweepView] = ()
    leases: Sequence[tuple[str, str]] = ()
    at: str = field(default_factory=lambda: time.strftime("%H:%M:%S"))

    @property
    def active(self) -> int:
        """How many runs and sweeps go on."""
        return sum(view.state == "running" for view in (*self.runs, *self.sweeps))


def overview(root: Path) -> Overview:
    """Of the storage at the folder `root`; runs and sweeps that go on come first."""
    records = run_records(root / "logs")
    runs = [_run_view(root, record) for record in records]
    going = [r for r in runs if r.state == "running"]
    ended = [r for r in runs if r.state != "running"]
    sweeps = [_sweep_view(p) for p in _newest_first(root / SWEEPS)]
    sweeps.sort(key=lambda s: s.state != "running")
    leases: list[tuple[str, str]] = []
    if not any(s.state == "running" for s in sweeps):  # whose trials hold leases of their own
        known = {f"{r['host']}, process {r['pid']}" for r in records if r["state"] == "running"}
        leases = [(name, by) for name, by in _leases(root) if by not in known]
    return Overview(str(root), [*going, *ended[:_ENDED_RUNS]], sweeps, leases)


def _newest_first(folder: Path) -> list[Path]:
    found = [p for p in folder.iterdir() if p.is_dir()] if folder.is_dir() else []
    return sorted(found, key=lambda p: -p.stat().st_mtime)


def _leases(root: Path) -> Iterator[tuple[str, str]]:
    """(stage, who makes it) of every live lease, those of sweeps' folders left out."""
    for file in sorted(root.glob(f"*/*/{LEASE}")):
        if file.parent.parent.name != SWEEPS and (by := holder(file.parent, _watch)):
            yield file.parent.parent.name, by


def _share(progress: Mapping[str, Any]) -> float | None:
    step, total = progress.get("step"), progress.get("total")
    return min(1.0, step / total) if step is not None and total else None


def _when(timestamp: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(timestamp))


def _run_view(root: Path, record: Mapping[str, Any]) -> RunView:
    stages = record["stages"]
    working, charts = [], []
    if record["state"] == "running":
        for stage in (s for s in stages if s["state"] in ("running", "starting", "leased")):
            progress = stage["progress"]
            told = [progress_text(progress) or stage["detail"], f"for {duration(stage['seconds'])}"]
            if stage["state"] == "starting":
                told = ["ready, waits for its inputs"]
            text = "  ".join(t for t in told if t)
            working.append(Working(stage["name"], stage["machine"], _share(progress), text))
            charts += _losses(root / stage["name"] / stage["fingerprint"], stage["name"])
    return RunView(
        record["name"],
        record["command"],
        record["state"],
        _when(record["started"]),
        record["job"],
        sum(s["state"] in _OVER for s in stages),
        len(stages),
        record["host"],
        working,
        [(s["name"], s["detail"]) for s in stages if s["state"] == "failed"],
        charts,
    )


def _losses(folder: Path, stage: str) -> list[Small]:
    """The losses of a training stage that runs, held-out ones beside them."""
    file = folder / "checkpoints" / FILE_NAME
    if not file.is_file() or file.stat().st_size > _LARGEST_LOG:
        return []
    curves = read_curves(file, ("loss/*", "valid/loss/*"))
    names = dict.fromkeys(k.removeprefix("valid/").removeprefix("loss/") for k in curves)
    found = []
    for name in names:
        series = {
            "training": curves.get(f"loss/{name}"),
            "held-out": curves.get(f"valid/loss/{name}"),
        }
        known = {k: points for k, points in series.items() if points}
        colours = {"training": 0, "held-out": 1}
        svg = line_chart(known, f"loss {name}", colours, dashed=("held-out",))
        keys = tuple((k, colour_class(colours[k])) for k in known) if len(known) > 1 else ()
        found.append(Small(f"{stage}, loss {name}", svg, keys))
    return found


def _json(file: Path) -> dict[str, Any]:
    """A file's JSON; empty where there is none, or half of one."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _rows(folder: Path, results: Mapping[str, Any]) -> list[TrialRow]:
    """Ended trials, those of the results first known, else in the order in which they ended."""
    documents = results.get("rows")
    if documents is None:
        files = sorted((folder / ROWS).glob("*.json"), key=lambda p: p.stat().st_mtime)
        documents = [d for f in files if (d := _json(f))]
    try:
        return [TrialRow(**document) for document in documents]
    except TypeError:  # of another version
        return []


def _sweep_view(folder: Path) -> SweepView:
    definition, results = _json(folder / DEFINITION), _json(folder / RESULTS)
    record = read_record(folder / RECORD) or {}
    state = record.get("state") or ("ended" if results else "unknown")
    if state == "running":
        results = {}  # of an earlier command
    rows = _rows(folder, results)
    metric, mode = definition.get("metric", ""), definition.get("mode", "max")
    count = {s: sum(r.state == s for r in rows) for s in ("done", "stopped", "failed")}
    running = record.get("running", []) if state == "running" else []
    best = best_of(rows, metric, mode, searched=bool(definition.get("space")))
    failed = max(count["failed"], record.get("failed", 0))
    total = max(record.get("trials", 0), len(rows), len(definition.get("arms", {})))
    started = record.get("started") or folder.stat().st_mtime
    return SweepView(
        folder.name,
        state,
        _when(started),
        total,
        count["done"],
        count["stopped"],
        failed,
        len(running),
        metric,
        best.in_words(metric, mode) if best else "",
        _sweep_left(rows, running, total - count["done"] - count["stopped"] - failed, record)
        if state == "running"
        else "",
        (folder / "report" / "index.html").is_file(),
        [w for trial in running for w in _at_work(trial)],
        [*_by_trial(rows, metric, mode), *_of_running(running)],
    )


def _sweep_left(
    rows: Sequence[TrialRow],
    running: Sequence[Mapping[str, Any]],
    left: int,
    record: Mapping[str, Any],
) -> str:
    """From the trials that ended."""
    took = [row.seconds for row in rows if row.seconds > 0 and row.state != "failed"]
    going = [trial["seconds"] for trial in running]
    found = trials_left(took, going, max(0, left - len(going)), record.get("concurrency", 1))
    return str(found or "time left: known when the first trial has ended")


def _at_work(trial: Mapping[str, Any]) -> Iterator[Working]:
    name = f"{trial['label']}, seed {trial['seed']}"
    for stage, progress in trial["stages"].items():
        text = progress_text(progress) or progress["state"]
        yield Working(stage, progress.get("machine", ""), _share(progress), text, name)


def _by_trial(rows: Sequence[TrialRow], metric: str, mode: str) -> list[Small]:
    values = [(i, e.mean) for i, r in enumerate(rows, 1) if (e := r.estimate(metric))]
    if len(values) < 2:
        return []
    so_far, extreme = [], max if mode == "max" else min
    for index, value in values:
        so_far.append((index, extreme(value, so_far[-1][1]) if so_far else value))
    series = {"each trial": values, "best so far": so_far}
    svg = line_chart(series, f"{metric} by trial", dots=("each trial",), x_name="trial")
    keys = (("each trial", colour_class(0)), ("best so far", colour_class(1)))
    return [Small(f"{metric} by trial", svg, keys)]


def _of_running(running: Sequence[Mapping[str, Any]]) -> list[Small]:
    """A chart a loss of a stage, a line a trial that runs."""
    found: dict[str, dict[str, Any]] = {}
    for trial in running[:COLOURS]:
        for stage, losses in trial.get("curves", {}).items():
            for name, points in losses.items():
                title = f"{stage}, loss {name}"
                found.setdefault(title, {})[trial["label"]] = points
    order = {trial["label"]: i for i, trial in enumerate(running[:COLOURS])}
    return [
        Small(
            title,
            line_chart(series, title, order),
            tuple((label, colour_class(order[label])) for label in series),
        )
        for title, series in found.items()
    ]
