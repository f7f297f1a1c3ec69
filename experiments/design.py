"""What an experiment fixes before its first trial, and the plan of each run that says so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from momo_platform.stages import UserError
from momo_platform.stages.manifest import git_commit
from momo_platform.sweeps.comparisons import TEST
from momo_platform.sweeps.folder import DEFINITION, PLAN


@dataclass(frozen=True)
class Design:
    """An experiment's comparisons, chosen before any run; its docstring says the same in words.

    `comparisons`: the arms that are each compared with the first one, by `metric`: one family, all
    of it corrected together, whether or not `--only` leaves some out. `seeds`: how many, unless
    `--seeds` names others before the first trial. `margin`: the smallest difference that matters,
    in the metric's unit; None: nothing is ever called equal. `learning_rates`: how many each arm is
    tried with, so that no arm is tuned more than the others unseen.
    """

    comparisons: tuple[str, ...] = ()
    metric: str = "macro"
    seeds: int = 3
    margin: float | None = None
    learning_rates: int = 1

    def __post_init__(self) -> None:
        if self.margin is not None and not self.margin > 0:
            raise ValueError(f"margin={self.margin}: give a difference above 0, or None")
        if self.seeds < 1 or self.learning_rates < 1:
            raise ValueError(f"seeds={self.seeds}, learning_rates={self.learning_rates}: give 1")

    def in_words(self) -> str:
        """The sentence that the docstring holds."""
        rates = f"{_counted(self.learning_rates, 'learning rate')} an arm"
        seeds = _counted(self.seeds, "seed")
        if not self.comparisons:
            return f"Design: {seeds}, chosen by {self.metric}; no comparisons, so no verdicts."
        margin = (
            "No margin, so nothing is called equal"
            if self.margin is None
            else f"What lies within a margin of {self.margin:g} is called equal"
        )
        return (
            f"Design: {seeds}; {rates}; {_counted(len(self.comparisons), 'comparison')} by "
            f"{self.metric}, one family: {'; '.join(self.comparisons)}. {margin}."
        )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class RunPlan:
    """One run's, as it lies in plan.json beside its rows and in its results."""

    experiment: str
    seeds: tuple[int, ...]
    comparisons: tuple[str, ...]
    metric: str
    margin: float | None
    learning_rates: int
    base: str
    """The fingerprint of the config that all arms start from."""
    test: str = TEST
    commit: str = ""
    date: str = ""

    def fixed(self, folder: Path) -> Mapping[str, Any]:
        """What the run in `folder` records: this plan with commit and date, or, where it goes on,
        the one that it began with; nothing where that had none. Raises UserError where that run, or
        another of this experiment beside it, was begun with other seeds or comparisons, or had one
        of these seeds and was judged by another metric or margin."""
        now = {"commit": git_commit(), "date": datetime.now(UTC).isoformat(timespec="seconds")}
        mine = asdict(replace(self, **now))
        before, begun = _read(folder / PLAN), _read(folder / DEFINITION)
        if before or begun:
            self._compare(folder, before or {"seeds": begun["seeds"], "date": "an earlier day"})
        for file in sorted(folder.parent.glob(f"*/{PLAN}")):
            if file.parent != folder:
                self._check_seeds(file.parent.name, _read(file))
        same = (before or begun).get("base") == self.base
        return before if same else mine

    def _compare(self, folder: Path, before: Mapping[str, Any]) -> None:
        if set(before["seeds"]) != set(self.seeds):
            raise UserError(
                f"{folder.name} was planned on {before['date'][:10]} with seeds "
                f"{_listed(before['seeds'])}, and seeds can't be changed once results may have "
                f"been seen: a run with seeds {_listed(self.seeds)} is a new run, so give it a "
                f"--name and as many seeds that no run has had: "
                f"--seeds {_listed(self._fresh(before['seeds']))}"
            )
        fields = ("comparisons", "metric", "margin", "learning_rates")
        mine = json.loads(json.dumps(asdict(self)))
        if other := [f for f in fields if f in before and before[f] != mine[f]]:
            raise UserError(
                f"{folder.name} was planned on {before['date'][:10]} with other "
                f"{' and '.join(other)}: what is compared is fixed before the first trial; give a "
                f"new run a --name and seeds that no run has had: "
                f"--seeds {_listed(self._fresh(before['seeds']))}"
            )

    def _check_seeds(self, name: str, other: Mapping[str, Any]) -> None:
        if (other.get("experiment"), other.get("base")) != (self.experiment, self.base):
            return
        seen = set(other["seeds"]) & set(self.seeds)
        judged = [f for f in ("metric", "margin") if f in other and other[f] != asdict(self)[f]]
        if seen and judged:
            raise UserError(
                f"the run {name} has had seeds {_listed(sorted(seen))} and was judged by another "
                f"{' and '.join(judged)}, which can't be changed once results may have been seen: "
                f"give seeds that no run has had: --seeds {_listed(self._fresh(other['seeds']))}"
            )
        if seen and set(other["seeds"]) != set(self.seeds):
            raise UserError(
                f"--seeds {_listed(self.seeds)}: the run {name} has had {_listed(sorted(seen))}; "
                "results that may have been seen can't be added to: give seeds that no run has "
                f"had: --seeds {_listed(self._fresh(other['seeds']))}"
            )

    def _fresh(self, seen: Sequence[int]) -> list[int]:
        first = max(seen) + 1
        return list(range(first, first + len(self.seeds)))


def _listed(seeds: Sequence[int]) -> str:
    return " ".join(map(str, seeds))


def _read(file: Path) -> dict[str, Any]:
    """Empty where there is none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found["seeds"], list):
            raise TypeError("seeds")
        return found
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} can't be read as a run's plan ({error!r}): remove its folder, or give another "
            "--name"
        ) from error
