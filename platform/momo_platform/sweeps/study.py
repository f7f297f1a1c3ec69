"""Rows as an Optuna study: for optuna-dashboard, and for the importance of each parameter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from momo_platform.stages import UserError
from momo_platform.sweeps.rows import TrialRow
from momo_platform.sweeps.sweep import ARM, Choice, Interval, Sweep

STUDY = "study.db"
_ROW = "trial"
_LEAST_ROWS = 4


def study_url(given: str, folder: Path) -> str:
    """Where the study lies: a database's URL, by default SQLite in the sweep's folder."""
    return given or f"sqlite:///{folder / STUDY}"


def open_study(url: str, sweep: Sweep) -> Any:
    """The sweep's study, made if it is not there. Raises UserError for a database out of reach."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    direction = "maximize" if sweep.mode == "max" else "minimize"
    try:
        return optuna.create_study(
            storage=url,
            study_name=sweep.name,
            direction=direction,
            load_if_exists=True,
        )
    except Exception as error:  # a driver that is not installed, a server that does not answer …
        if url.startswith("sqlite"):
            raise UserError(
                f"{url.removeprefix('sqlite:///')}: {_first_line(error)}; SQLite must be able to "
                "write and to lock files there: give another --storage, or a PostgreSQL server "
                "with --optuna"
            ) from error
        shown = url.rpartition("@")[2]  # without the password
        raise UserError(
            f"--optuna {shown}: {error}; give a database that this machine reaches, with its "
            "driver installed (PostgreSQL: pip install 'psycopg[binary]'), or leave it out for "
            "SQLite"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def delete_study(url: str, name: str) -> None:
    """Forget a study, where there is one."""
    import optuna

    try:
        optuna.delete_study(storage=url, study_name=name)
    except Exception:  # noqa: BLE001 - none there; a database out of reach is told when it is opened
        return


def distributions(sweep: Sweep) -> dict[str, Any]:
    """The parameters as Optuna has them."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    def one(value: Choice | Interval) -> Any:
        if isinstance(value, Choice):
            return CategoricalDistribution([plain(v) for v in value.values])
        if value.integer:
            return IntDistribution(int(value.low), int(value.high), log=value.log)
        return FloatDistribution(value.low, value.high, log=value.log)

    if sweep.arms:
        return {ARM: CategoricalDistribution(list(sweep.arms))}
    return {name: one(value) for name, value in sweep.space.items()}


def plain(value: Any) -> Any:
    """A value as a category: numbers, text and booleans as they are, others as text."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def add_row(study: Any, sweep: Sweep, row: TrialRow) -> None:
    """Add a row that the search itself has not put there; once, or again where it ends otherwise
    after a resume."""
    import optuna

    if sweep.search == "optuna" or row.state == "not run":
        return
    value = row.estimate(sweep.metric) if row.state == "done" else None
    states = optuna.trial.TrialState
    state = states.COMPLETE if value else states.PRUNED if row.state == "stopped" else states.FAIL
    for known in study.get_trials(deepcopy=False):
        if known.user_attrs.get(_ROW) == row.trial and known.state == state:
            return
    study.add_trial(
        optuna.trial.create_trial(
            state=state,
            value=value.mean if value else None,
            params={name: plain(v) for name, v in row.parameters.items()},
            distributions=distributions(sweep),
            user_attrs={_ROW: row.trial, "label": row.label},
        )
    )


def requeue(study: Any) -> int:
    """Trials that a killed driver left running → the first that the search gives out again, so that
    their stages go on; returns how many."""
    import optuna

    states = optuna.trial.TrialState
    left = study.get_trials(deepcopy=False, states=(states.RUNNING,))
    for trial in left:
        study.tell(trial.number, state=states.FAIL)
        study.enqueue_trial(trial.params)
    return len(left)


def importance(sweep: Sweep, rows: Sequence[TrialRow]) -> dict[str, float]:
    """Parameter → its share of the metric's variance (fANOVA, Hutter et al. 2014), largest first.

    Empty where there are too few finished rows, or only one parameter or value.
    """
    import optuna

    done = [row for row in rows if row.state == "done" and row.estimate(sweep.metric)]
    if sweep.arms or len(sweep.space) < 2 or len(done) < _LEAST_ROWS:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if sweep.mode == "max" else "minimize")
    plainly = Sweep(**{**vars(sweep), "search": "grid" if not _has_interval(sweep) else "random"})
    for row in done:
        add_row(study, plainly, row)
    try:
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
        )
    except (ValueError, RuntimeError):  # all values equal
        return {}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _has_interval(sweep: Sweep) -> bool:
    return any(isinstance(value, Interval) for value in sweep.space.values())
