"""A sweep's trials as trials of Ray Tune. Imports Ray."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.search.optuna import OptunaSearch

from momo_platform.stages import UserError
from momo_platform.stages.fingerprint import fingerprint
from momo_platform.sweeps.callbacks import TellTrials
from momo_platform.sweeps.follow import Follower
from momo_platform.sweeps.rows import TrialRow
from momo_platform.sweeps.study import requeue, study_url
from momo_platform.sweeps.sweep import Choice, Interval, Settings, Sweep
from momo_platform.sweeps.trial import (
    HISTORY_LENGTH,
    NUMBER,
    STEP,
    WATCHED,
    parameters_from,
    row_of,
    run_trial,
    trial_name,
)

if TYPE_CHECKING:
    from momo_platform.sweeps.driver import SweepOptions

TUNE = "tune"
# A trial's own actor only waits: with a share of a CPU, its stages would find none whole. Tune
# refuses a trial without resources, so it takes what its process takes, in bytes.
_TRIAL = {"memory": 300e6}


def run_trials(
    sweep: Sweep,
    storage: str,
    folder: Path,
    options: SweepOptions,
    concurrency: int,
    follower: Follower,
    callbacks: Sequence[Any],
) -> list[TrialRow]:
    """All rows: those that `follower` knows from before, and what is run now.

    Trials that are known beforehand are a list, of which what is missing runs; Optuna goes on with
    its study; a population is restored by Tune, whose choices are its own. Raises UserError when
    trials got lost.
    """
    TellTrials.follower = follower
    board, sets = follower.board, sweep.parameter_sets() if sweep.is_listed else None
    known = {
        name: row for name, row in follower.kept.found.items() if _still_holds(sweep, row, sets)
    }
    follower.know(known.values())
    if known:
        follower.say(f"{len(known)} of the trials are known from before")

    def trial(parameters: dict[str, Any]) -> None:
        run_trial(parameters_from(sweep, parameters), sweep, storage, board)

    trainable = tune.with_resources(trial, tune.PlacementGroupFactory([_TRIAL]))
    run_config = tune.RunConfig(
        name=TUNE,
        storage_path=str(folder),
        verbose=0,
        stop={HISTORY_LENGTH: sweep.segments} if sweep.is_population else None,
        callbacks=[TellTrials(), *_loggers(sweep, options, folder), *callbacks],
    )
    started = options, folder, concurrency, known, follower
    if (tuner := _tuner(sweep, *started, trainable, run_config)) is None:
        return list(known.values())
    rows = []
    for result in tuner.fit():  # type: ignore[attr-defined]
        name = Path(result.path).name if result.path else ""
        parameters = follower.parameters_of(name, result.config or {})
        rows.append(row_of(sweep, follower.name_of(name), parameters, result.metrics, result.error))
    found = {**known, **{row.trial: row for row in rows}}
    if len(found) != sweep.trials:
        raise UserError(
            f"sweep {sweep.name}: {len(found)} of {sweep.trials} trials came back: --fresh begins "
            "anew, finished stages stay"
        )
    return list(found.values())


def _tuner(
    sweep: Sweep,
    options: SweepOptions,
    folder: Path,
    concurrency: int,
    known: Mapping[str, TrialRow],
    follower: Follower,
    trainable: Any,
    run_config: tune.RunConfig,
) -> tune.Tuner | None:
    """Of what is still to run; None where that is nothing."""
    place = folder / TUNE
    if sweep.is_population and _can_be_restored(place):
        follower.say("going on with the population")
        return tune.Tuner.restore(str(place), trainable, restart_errored=True)
    shutil.rmtree(place, ignore_errors=True)
    space, samples, search = _search(sweep, options, folder, concurrency, known, follower.study)
    if not samples or space == {}:
        return None
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            num_samples=samples,
            search_alg=search,
            scheduler=_scheduler(sweep),
            max_concurrent_trials=concurrency if sweep.search == "optuna" else None,
            reuse_actors=not sweep.is_population,
            trial_dirname_creator=lambda one: one.trial_id,
        ),
        run_config=run_config,
    )


def _still_holds(sweep: Sweep, row: TrialRow, sets: Sequence[Settings] | None) -> bool:
    """Whether a row of an earlier run is what its trial would give now: the same parameters under
    its number, and graphs with the same fingerprints."""
    if sets is not None:
        number = int(row.trial) if row.trial.isdigit() else -1
        if not 0 <= number < len(sets) or plainly(sets[number]) != plainly(row.parameters):
            return False
    for seed, stages in row.stages.items():
        try:
            target = sweep.build(sweep.base, list(row.history), int(seed))
        except UserError:
            return False
        if stages.get(target.name) != fingerprint(target):
            return False
    return True


def plainly(parameters: Settings) -> Any:
    """As JSON has them: tuples are lists."""
    return json.loads(json.dumps(dict(parameters)))


def _can_be_restored(place: Path) -> bool:
    """Whether Tune left a whole state there: killed early, it leaves a part."""
    states = sorted(place.glob("experiment_state-*.json"))
    try:
        return bool(states) and bool(json.loads(states[-1].read_text(encoding="utf-8")))
    except ValueError:
        return False


def _search(
    sweep: Sweep,
    options: SweepOptions,
    folder: Path,
    concurrency: int,
    known: Mapping[str, TrialRow],
    study: Any,
) -> tuple[dict[str, Any], int, Any]:
    """(parameter space, samples, search algorithm) of what is still to run."""
    if sweep.is_listed:
        done = {row.trial for row in known.values()}
        missing = [n for n in range(sweep.trials) if trial_name(n) not in done]
        space = {NUMBER: tune.grid_search(missing)} if missing else {}
        return space, 1, BasicVariantGenerator(max_concurrent=concurrency)
    space = {name: _domain(value) for name, value in sweep.space.items()}
    if sweep.search == "optuna":
        import optuna

        requeue(study)
        search = PrunedSearch(
            metric=sweep.metric,
            mode=sweep.mode,
            seed=sweep.search_seed + len(known),
            study_name=sweep.name,
            storage=optuna.storages.RDBStorage(study_url(options.optuna, folder)),
        )
        return space, sweep.samples - len(known), search
    # A population waits for its slowest: fewer at a time would wait for ever.
    return space, sweep.samples, BasicVariantGenerator(random_state=sweep.search_seed)


class PrunedSearch(OptunaSearch):
    """Tells Optuna of a trial that was stopped early as pruned, not as one without an end."""

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if math.isfinite(result.get(str(self.metric), math.nan)):
            super().on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        value = (result or {}).get(str(self.metric), math.nan)
        super().on_trial_complete(trial_id, result if math.isfinite(value) else None, error)


def _domain(value: Choice | Interval) -> Any:
    if isinstance(value, Choice):
        return tune.choice(list(value.values))
    low, high = value.low, value.high
    if value.integer:  # Tune's upper end is exclusive
        make = tune.lograndint if value.log else tune.randint
        return make(int(low), int(high) + 1)
    return tune.loguniform(low, high) if value.log else tune.uniform(low, high)


def _scheduler(sweep: Sweep) -> Any:
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
            time_attr=HISTORY_LENGTH,
            metric=sweep.metric,
            mode=sweep.mode,
            perturbation_interval=1,
            hyperparam_mutations={
                name: list(value.values) if isinstance(value, Choice) else _domain(value)
                for name, value in sweep.space.items()
            },
            custom_explore_fn=Inside(sweep.space),
            quantile_fraction=stopping.quantile,
            synch=True,
        )
    return FIFOScheduler()


class Inside:
    """Brings explored settings back into their intervals."""

    def __init__(self, space: Mapping[str, Choice | Interval]) -> None:
        self.space = dict(space)

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        for name, value in self.space.items():
            if isinstance(value, Interval):
                inside = min(max(config[name], value.low), value.high)
                config[name] = round(inside) if value.integer else inside
        return config


def _loggers(sweep: Sweep, options: SweepOptions, folder: Path) -> list[Any]:
    if not options.wandb:
        return []
    import wandb

    from momo_platform.sweeps.wandb_runs import TrialRuns

    mode = os.environ.get("WANDB_MODE")
    if mode is None and not wandb.api.api_key:
        mode = os.environ["WANDB_MODE"] = "offline"
    return [TrialRuns(sweep, folder, mode)]
