"""Runs a sweep on Ray: checks it, goes on where it was, follows it, writes its rows."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from momo_platform.files import write_whole
from momo_platform.machine import machine_description
from momo_platform.stages import UserError, make_plan, open_storage
from momo_platform.stages.in_use import InUse
from momo_platform.stages.manifest import git_commit
from momo_platform.stages.stage import all_stages
from momo_platform.stages.status import check_feasible
from momo_platform.stages.storage.artifacts import Storage
from momo_platform.stages.storage.local_leases import FILE_NAME as LEASE
from momo_platform.stages.storage.local_leases import LocalLeases
from momo_platform.sweeps.comparisons import comparisons
from momo_platform.sweeps.folder import DEFINITION, PLAN, RAY_URL, RESULTS, sweep_folder
from momo_platform.sweeps.follow import Follower
from momo_platform.sweeps.rows import Results, TrialRow, shown_metrics
from momo_platform.sweeps.study import delete_study, open_study, study_url
from momo_platform.sweeps.sweep import Sweep

_ENVIRONMENT: Mapping[str, str] = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the driver; what is saved is enough to go on
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "30",  # a stopped trial cancels its tasks first
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


@dataclass(frozen=True)
class SweepOptions:
    """Where and how a sweep runs; never what it computes."""

    storage: str = "runs"
    """Folder or URI of all artifacts; trials share them."""
    cluster: str = "auto"
    """auto (a running Ray cluster, else a private one), local, or an address."""
    concurrency: int = 0
    """Trials at once; 0: as many as the cluster can hold."""
    resume: bool = False
    """Go on with a sweep that was begun; without it that happens too, this one insists."""
    fresh: bool = False
    """Forget a sweep of this name and its rows; finished stages stay and are not run again."""
    optuna: str = ""
    """Optuna's storage, e.g. postgresql://user@host/db (needs psycopg); empty: SQLite in the
    sweep's folder."""
    wandb: bool = False
    """Log every trial to Weights & Biases too; offline unless logged in."""
    dashboard: bool = False
    """Start Ray's own dashboard with a private Ray; `make dashboard` leads to it."""
    verbose: bool = False
    """Show Ray's own messages instead of sending them to the log file."""


def run_sweep(
    sweep: Sweep,
    options: SweepOptions,
    arguments: Sequence[str] = (),
    callbacks: Sequence[Any] = (),
    planned: Callable[[Path], Mapping[str, Any]] | None = None,
) -> Results:
    """Run what is missing of the sweep and return all rows, failed ones too.

    `callbacks` are more of Tune's own. `planned` gives, for the sweep's folder, what was fixed
    before the first trial (nothing: unknown), or raises UserError; it lies in plan.json, which
    `fresh` leaves, and in the results. Writes results.json to `sweep_folder`. Raises UserError for
    a sweep that was defined otherwise, that another process runs, or that the cluster can't hold,
    before any trial starts and anything is forgotten; KeyboardInterrupt when it was interrupted.
    """
    storage = open_storage(options.storage)
    folder = sweep_folder(storage, sweep.name)
    _check_begun(sweep, storage, folder, options)
    storage.create()
    folder.mkdir(parents=True, exist_ok=True)
    from momo_platform.silence import silence

    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    log = folder / "logs" / f"{time.strftime('%Y%m%d-%H%M%S')}.log"
    started = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(_alone(folder))
        plan = planned(folder) if planned else {}
        stream = stack.enter_context(silence(log, verbose=options.verbose))
        notice = _connect(stack, options, folder)
        concurrency = _concurrency(sweep, storage, options)
        study = _study(sweep, options, folder)
        if plan:
            write_whole(folder / PLAN, json.dumps(plan, indent=1))
        write_whole(folder / DEFINITION, json.dumps(_definition(sweep, storage), indent=1))
        held = InUse(storage)
        stack.callback(held.close)
        held.add([])  # a storage that does not take it is told before a trial starts
        follower = stack.enter_context(
            Follower(
                *(sweep, folder, stream, study),
                verbose=options.verbose,
                concurrency=concurrency,
                in_use=held,
            )
        )
        if notice:
            follower.say(notice)
        follower.say(
            f"sweep {sweep.name}: {sweep.trials} trials of {len(sweep.seeds)} seeds, "
            f"{concurrency} at a time; rows in {folder}, Ray's log in {log}"
        )
        from momo_platform.sweeps.tuning import run_trials

        rows = run_trials(sweep, storage.uri, folder, options, concurrency, follower, callbacks)
    seconds = time.monotonic() - started
    results = _results(sweep, rows, plan, shlex.join(arguments), seconds)
    results.write(folder / RESULTS)
    return results


def _results(
    sweep: Sweep, rows: Sequence[TrialRow], plan: Mapping[str, Any], command: str, seconds: float
) -> Results:
    rows = _told_apart(sorted(rows, key=lambda row: _order(sweep, row)))
    results = Results(
        name=sweep.name,
        metric=sweep.metric,
        mode=sweep.mode,
        command=_without_passwords(command),
        commit=git_commit(),
        machine=machine_description(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=seconds,
        definition=sweep.definition(),
        shown=shown_metrics(sweep.metric, sweep.show, rows),
        rows=rows,
        plan=plan,
    )
    return replace(results, comparisons=[asdict(c) for c in comparisons(results).values()])


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the sweep's folder, by a lease. Raises UserError when another process does."""
    leases = LocalLeases()
    try:
        if other := leases.acquire_watching(folder):
            raise UserError(f"{folder}: another process runs this sweep ({other}); wait for it")
        yield
    finally:
        leases.close()


def _study(sweep: Sweep, options: SweepOptions, folder: Path) -> Any:
    """Optuna's; with `fresh` all that was there before goes, once it is known that it can be."""
    url = study_url(options.optuna, folder)
    study = open_study(url, sweep)
    if options.fresh:
        _forget(sweep, folder, url)
        study = open_study(url, sweep)
    return study


def _forget(sweep: Sweep, folder: Path, url: str) -> None:
    for path in folder.iterdir():
        if path.name in (LEASE, "logs", "wandb", RAY_URL, PLAN):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    delete_study(url, sweep.name)


def _connect(stack: ExitStack, options: SweepOptions, folder: Path) -> str:
    """Use the Ray that this process has, or start one; returns a line to show, or ''."""
    import ray

    from momo_platform.cluster import start_ray

    if ray.is_initialized():
        return ""
    connection = stack.enter_context(
        start_ray(options.cluster, verbose=options.verbose, dashboard=options.dashboard)
    )
    if connection.dashboard:
        (folder / RAY_URL).write_text(connection.dashboard, encoding="utf-8")
    return connection.notice


def _definition(sweep: Sweep, storage: Storage) -> dict[str, Any]:
    """The sweep's, and the object storage of its artifacts where it is one."""
    remote = {} if storage.is_local else {"storage": storage.uri}
    return sweep.definition() | remote


def _check_begun(sweep: Sweep, storage: Storage, folder: Path, options: SweepOptions) -> None:
    """Raise UserError where what lies in the folder is another sweep, or is not there."""
    if options.resume and options.fresh:
        raise UserError("--resume goes on with a sweep, --fresh forgets it: give one of the two")
    file = folder / DEFINITION
    if options.fresh:
        return
    if not file.exists():
        if options.resume:
            raise UserError(
                f"--resume: no sweep {sweep.name} in {folder.parent}; leave --resume out to begin"
            )
        return
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}): --fresh begins anew") from error
    now = json.loads(json.dumps(_definition(sweep, storage)))
    if changed := [name for name, value in now.items() if before.get(name) != value]:
        raise UserError(
            f"{folder} holds a sweep {sweep.name} that was defined otherwise ({', '.join(changed)} "
            "changed): --fresh begins anew, finished stages stay and cost seconds; or give another "
            "--name"
        )


def _concurrency(sweep: Sweep, storage: Storage, options: SweepOptions) -> int:
    """How many trials the cluster holds. Raises UserError for none, or fewer than asked."""
    import ray

    resources = ray.cluster_resources()
    most = math.inf
    for parameters in sweep.parameter_sets():
        target = sweep.build(sweep.base, [sweep.settings(parameters)], sweep.seeds[0])
        try:
            check_feasible(make_plan([target], storage), resources)
        except UserError as error:
            raise UserError(f"sweep {sweep.name} can't fit: {error}") from error
        for stage in all_stages([target]):
            for name, amount in stage.resources.total.items():
                most = min(most, resources.get(name, 0.0) / amount)
    held = int(most + 1e-9) if math.isfinite(most) else max(1, int(resources.get("CPU", 1)))
    held = max(1, held)
    if options.concurrency > held:
        raise UserError(
            f"--concurrency {options.concurrency}: the cluster holds {held} trials at once; add "
            "machines, or give their stages less"
        )
    return min(options.concurrency or held, sweep.trials)


def _told_apart(rows: Sequence[TrialRow]) -> list[TrialRow]:
    """With different labels: values that look alike get their trial's name too."""
    labels = [row.label for row in rows]
    return [
        replace(row, label=f"{row.label} #{row.trial}") if labels.count(row.label) > 1 else row
        for row in rows
    ]


def _order(sweep: Sweep, row: TrialRow) -> tuple[int, str]:
    arms = list(sweep.arms)
    return (arms.index(row.label) if row.label in arms else 0), row.trial


def _without_passwords(command: str) -> str:
    return re.sub(r"(://[^/\s:@']*):[^@\s']*@", r"\1:…@", command)
