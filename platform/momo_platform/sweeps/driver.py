"""Runs a sweep on Ray Tune: checks it, resumes it, follows it, writes its rows."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from momo_platform.machine import machine_description
from momo_platform.stages import UserError, make_plan, open_storage
from momo_platform.stages.executor import check_feasible
from momo_platform.stages.manifest import git_commit
from momo_platform.stages.stage import all_stages
from momo_platform.stages.storage import Storage
from momo_platform.sweeps.dashboard import RAY_URL
from momo_platform.sweeps.follow import Follower
from momo_platform.sweeps.rows import Results, Row, shown_metrics
from momo_platform.sweeps.study import add_row, open_study, study_url
from momo_platform.sweeps.sweep import ARM, Choice, Interval, Sweep
from momo_platform.sweeps.trial import ROW, STEP, WATCHED, is_population, row_of

TUNE, DEFINITION, RESULTS = "tune", "sweep.json", "results.json"
# A trial's own actor only waits: with a share of a CPU, its stages would find none whole. Tune
# refuses a trial without resources, so it takes what its process takes, in bytes.
_TRIAL = {"memory": 300e6}


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
    """Optuna's storage, e.g. postgresql://user@host/db; empty: SQLite in the sweep's folder."""
    wandb: bool = False
    """Log every trial to Weights & Biases too; offline unless logged in."""
    dashboard: bool = False
    """Start Ray's own dashboard with a private Ray; `make dashboard` leads to it."""
    verbose: bool = False
    """Show Ray's own messages instead of sending them to the log file."""


def sweep_folder(storage: Storage, name: str) -> Path:
    """Where a sweep's own files lie: below the storage if it is a folder, else below `runs`."""
    root = Path(storage.uri) if "://" not in storage.uri else Path("runs").absolute()
    return root / "sweeps" / name


def run_sweep(
    sweep: Sweep,
    options: SweepOptions,
    arguments: Sequence[str] = (),
    callbacks: Sequence[Any] = (),
) -> Results:
    """Run what is missing of the sweep and return all rows, failed ones too.

    `callbacks` are more of Tune's own. Writes results.json and report/ to `sweep_folder`. Raises
    UserError for a sweep that was defined otherwise, and for one that the cluster can't hold,
    before any trial starts; KeyboardInterrupt when it was interrupted.
    """
    storage = open_storage(options.storage)
    folder = sweep_folder(storage, sweep.name)
    _check_begun(sweep, folder, options)
    storage.create()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DEFINITION).write_text(json.dumps(sweep.definition(), indent=1), encoding="utf-8")
    from momo_platform.console import silence

    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    log = folder / "logs" / f"{stamp}.log"
    started = time.time()
    with ExitStack() as stack:
        stream = stack.enter_context(silence(log, verbose=options.verbose))
        notice = _connect(stack, options, folder)
        concurrency = _concurrency(sweep, storage, options)
        study = open_study(study_url(options.optuna, folder), sweep)
        follower = stack.enter_context(
            Follower(sweep, folder, stream, study, verbose=options.verbose)
        )
        if notice:
            follower.say(notice)
        follower.say(
            f"sweep {sweep.name}: {sweep.trials} trials of {len(sweep.seeds)} seeds, "
            f"{concurrency} at a time; rows in {folder}, Ray's log in {log}"
        )
        found = _fit(sweep, storage, folder, options, concurrency, follower, callbacks)
    rows = _told_apart(sorted(found, key=lambda row: _order(sweep, row)))
    results = _results(sweep, rows, arguments, started)
    results.write(folder / RESULTS)
    for row in rows:
        add_row(study, sweep, row)
    return results


_ENVIRONMENT: Mapping[str, str] = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the driver; what is saved is enough to go on
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


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


def _check_begun(sweep: Sweep, folder: Path, options: SweepOptions) -> None:
    """Raise UserError where what lies in the folder is another sweep, or is not there."""
    if options.resume and options.fresh:
        raise UserError("--resume goes on with a sweep, --fresh forgets it: give one of the two")
    if options.fresh:
        shutil.rmtree(folder, ignore_errors=True)
        return
    file = folder / DEFINITION
    if not file.exists():
        if options.resume:
            raise UserError(
                f"--resume: no sweep {sweep.name} in {folder.parent}; leave --resume out to begin"
            )
        return
    before, now = json.loads(file.read_text(encoding="utf-8")), sweep.definition()
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
    for settings in sweep.examples():
        target = sweep.build(sweep.base, [settings], sweep.seeds[0])
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


def _fit(
    sweep: Sweep,
    storage: Storage,
    folder: Path,
    options: SweepOptions,
    concurrency: int,
    follower: Follower,
    callbacks: Sequence[Any],
) -> list[Row]:
    from ray import tune

    from momo_platform.sweeps.callbacks import TellTrials
    from momo_platform.sweeps.trial import run_trial

    TellTrials.follower = follower
    board, uri = follower.board, storage.uri

    def trial(parameters: dict[str, Any]) -> None:
        run_trial(parameters, sweep, uri, board)

    trainable = tune.with_resources(trial, tune.PlacementGroupFactory([_TRIAL]))
    place = folder / TUNE
    if tune.Tuner.can_restore(str(place)):
        tuner = tune.Tuner.restore(
            str(place), trainable, restart_errored=True, param_space=_space(sweep)
        )
        follower.say("going on with the trials that are not finished")
    else:
        shutil.rmtree(place, ignore_errors=True)
        most = 0 if is_population(sweep) else concurrency  # a population waits for its slowest
        search = _search(sweep, options, folder, most)
        tuner = tune.Tuner(
            trainable,
            param_space=_space(sweep),
            tune_config=tune.TuneConfig(
                num_samples=1
                if sweep.search == "grid" and not is_population(sweep)
                else sweep.samples,
                search_alg=search,
                scheduler=_scheduler(sweep),
                max_concurrent_trials=most if sweep.search == "optuna" else None,
                reuse_actors=not is_population(sweep),
                trial_dirname_creator=lambda one: one.trial_id,
            ),
            run_config=tune.RunConfig(
                name=TUNE,
                storage_path=str(folder),
                verbose=0,
                callbacks=[TellTrials(), *_loggers(sweep, options, folder), *callbacks],
            ),
        )
    grid = tuner.fit()
    return [_row(sweep, result) for result in grid]  # type: ignore[attr-defined]


def _space(sweep: Sweep) -> dict[str, Any]:
    """The parameters as Tune draws them."""
    from ray import tune

    if sweep.arms:
        return {ARM: tune.grid_search(list(sweep.arms))}
    return {name: _domain(value, sweep.search) for name, value in sweep.space.items()}


def _domain(value: Choice | Interval, search: str) -> Any:
    from ray import tune

    if isinstance(value, Choice):
        values = list(value.values)
        return tune.grid_search(values) if search == "grid" else tune.choice(values)
    low, high = value.low, value.high
    if value.integer:  # Tune's upper end is exclusive
        make = tune.lograndint if value.log else tune.randint
        return make(int(low), int(high) + 1)
    return tune.loguniform(low, high) if value.log else tune.uniform(low, high)


def _search(sweep: Sweep, options: SweepOptions, folder: Path, concurrency: int) -> Any:
    if sweep.search != "optuna":
        from ray.tune.search.basic_variant import BasicVariantGenerator

        return BasicVariantGenerator(max_concurrent=concurrency, random_state=sweep.search_seed)
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    return OptunaSearch(
        metric=sweep.metric,
        mode=sweep.mode,
        seed=sweep.search_seed,
        study_name=sweep.name,
        storage=optuna.storages.RDBStorage(study_url(options.optuna, folder)),
    )


def _scheduler(sweep: Sweep) -> Any:
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining

    stopping = sweep.stopping
    if stopping.method == "asha":
        return ASHAScheduler(
            time_attr=STEP,
            metric=WATCHED,
            mode="min",
            max_t=stopping.steps + 1,  # the result itself comes at `steps`
            grace_period=stopping.grace_steps,
            reduction_factor=stopping.reduction,
        )
    if stopping.method == "pbt":
        return PopulationBasedTraining(
            time_attr="training_iteration",
            metric=sweep.metric,
            mode=sweep.mode,
            perturbation_interval=1,
            hyperparam_mutations={n: _domain(v, "random") for n, v in sweep.space.items()},
            quantile_fraction=stopping.quantile,
            synch=True,
        )
    return FIFOScheduler()


def _loggers(sweep: Sweep, options: SweepOptions, folder: Path) -> list[Any]:
    if not options.wandb:
        return []
    import wandb
    from ray.air.integrations.wandb import WandbLoggerCallback

    if not wandb.api.api_key:
        os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_DIR", str(folder))
    excluded = [ROW, STEP, WATCHED]
    return [WandbLoggerCallback(project="momo", group=sweep.name, excludes=excluded)]


def _row(sweep: Sweep, result: Any) -> Row:
    trial = Path(result.path).name if result.path else ""
    return row_of(sweep, trial, result.config or {}, result.metrics or {}, result.error)


def _told_apart(rows: Sequence[Row]) -> list[Row]:
    """With different labels: values that look alike get their trial's name too."""
    labels = [row.label for row in rows]
    return [
        replace(row, label=f"{row.label} #{row.trial}") if labels.count(row.label) > 1 else row
        for row in rows
    ]


def _order(sweep: Sweep, row: Row) -> tuple[int, str]:
    arms = list(sweep.arms)
    return (arms.index(row.label) if row.label in arms else 0), row.trial


def _results(
    sweep: Sweep, rows: Sequence[Row], arguments: Sequence[str], started: float
) -> Results:
    return Results(
        name=sweep.name,
        metric=sweep.metric,
        mode=sweep.mode,
        command=" ".join(arguments),
        commit=git_commit(),
        machine=machine_description(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=time.time() - started,
        definition=sweep.definition(),
        shown=shown_metrics(sweep.metric, sweep.show, rows),
        rows=rows,
    )


__all__ = ["SweepOptions", "run_sweep", "sweep_folder"]
