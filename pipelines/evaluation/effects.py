"""What each training stage did to each group of tasks: whether it left it where it was."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pipelines.evaluation.scores import Summary, less_is_better
from pipelines.evaluation.tasks import GROUPS

Rows = list[tuple[Mapping[str, Any], Mapping[str, Any]]]
"""Of the same tasks, before and after."""


@dataclass(frozen=True)
class Effect:
    """How a group's mean changed from the model `before` to that of `stage`, over the `tasks` that
    both were measured on. `low` and `high`: 95 %, of the choice of test examples, as if both models
    had been tested on different ones; None where a task has no interval. `objectives`: what the
    stage trains."""

    stage: str
    before: str
    group: str
    change: float
    low: float | None
    high: float | None
    tasks: int
    objectives: tuple[str, ...]

    @property
    def kept(self) -> bool:
        """Whether the group is at least where it was."""
        return self.change >= 0.0


def effects(models: Mapping[str, Summary], objectives: Mapping[str, Sequence[str]]) -> list[Effect]:
    """Of `models` in the order in which they were trained, each against the one before; the first
    may be the untrained one. `objectives`: by stage, in order; of stages that are not in `models`
    they count for the next one that is."""
    found = []
    names = list(models)
    trained = [*objectives]
    for before, stage in pairwise(names):
        first = trained.index(before) + 1 if before in trained else 0
        between = trained[first : trained.index(stage) + 1] if stage in trained else []
        trains = dict.fromkeys(one for name in between for one in objectives[name])
        for group in GROUPS:
            pairs = _common(models[before], models[stage], group)
            if not pairs:
                continue
            change = sum(new["value"] - old["value"] for old, new in pairs) / len(pairs)
            half = _half_width(pairs)
            found.append(
                Effect(
                    *(stage, before, group, change),
                    *((None, None) if half is None else (change - half, change + half)),
                    len(pairs),
                    tuple(trains),
                )
            )
    return found


def _common(before: Summary, after: Summary, group: str) -> Rows:
    """Rows of the tasks that enter the group's mean of both."""
    old = before["tasks"]
    return [
        (old[name], row)
        for name, row in after["tasks"].items()
        if row["group"] == group
        and name in old
        and not row["note"]
        and row["limit"] == old[name]["limit"]
        and not less_is_better(row["metric"])
    ]


def _half_width(pairs: Rows) -> float | None:
    """Of the mean's change, from the intervals of the values."""
    squares = 0.0
    for row in (one for pair in pairs for one in pair):
        if row["low"] is None:
            return None
        squares += ((row["high"] - row["low"]) / 2) ** 2
    return math.sqrt(squares) / len(pairs)


def told(found: Sequence[Effect], titles: Mapping[str, str] | None = None) -> list[str]:
    """A line for each group that a stage left lower; one line where there is none; none where
    nothing was compared. `titles`: objectives in words."""
    if not found:
        return []
    lost = [effect for effect in found if not effect.kept]
    if not lost:
        return ["Every evaluated stage left every group at least where it was."]
    return [_line(effect, titles or {}) for effect in lost]


def _line(effect: Effect, titles: Mapping[str, str]) -> str:
    line = (
        f"{effect.stage} took {-100 * effect.change:.1f} points of {effect.group} "
        f"(against {effect.before}, {effect.tasks} task{'s' if effect.tasks != 1 else ''}"
    )
    if effect.low is not None and effect.high is not None:
        line += f", 95 % {100 * effect.low:+.1f} to {100 * effect.high:+.1f}"
        line += ", within the interval" if effect.high >= 0.0 else ""
    trains = ", ".join(titles.get(name, name) for name in effect.objectives)
    return f"{line}); its objectives: {trains}" if trains else f"{line})"
