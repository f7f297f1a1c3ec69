"""What a sweep is: settings to try, seeds, and the graph that each of them makes."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from momo_platform.stages import Stage, UserError
from momo_platform.stages.fingerprint import canonical

Settings = Mapping[str, Any]
"""What one trial changes: a field's dotted path → its value."""
ARM = "arm"
"""The parameter that names an arm, where a sweep has arms."""


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise UserError("a choice of nothing: give at least one value")


@dataclass(frozen=True)
class Interval:
    """A number from `low` to `high`, both inclusive; `log`: evenly on a logarithmic scale."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise UserError(f"interval {self.low} to {self.high}: give finite, increasing ends")
        if self.log and self.low <= 0:
            raise UserError(f"interval {self.low} to {self.high}: a logarithm needs ends above 0")


@dataclass(frozen=True)
class Stopping:
    """When trials end early, or copy better ones.

    `asha` (arXiv 1810.05934) compares trials by a loss that the stage `stage` reports while it
    trains, from `grace_steps` on, and stops all but the best 1/`reduction`. `pbt` (arXiv
    1711.09846) trains in `segments`: after each, trials in the lowest `quantile` take over what
    one in the highest has trained and go on with other settings.
    """

    method: Literal["none", "asha", "pbt"] = "none"
    stage: str = ""
    loss: str = ""
    steps: int = 0
    grace_steps: int = 1
    reduction: int = 3
    segments: int = 4
    quantile: float = 0.25

    def __post_init__(self) -> None:
        if self.method == "asha" and not (self.stage and self.loss and self.steps):
            raise UserError("asha needs stage, loss and steps: what to compare trials by, and when")


@dataclass(frozen=True)
class Sweep:
    """An experiment of many trials.

    `build(base, history, seed)` gives the stage whose metrics are the result; `history` holds one
    trial's settings, one for each segment so far (one only, but with `pbt`). Metrics are read as
    numbers under their path (`groups/image`). Either `arms` (named settings, a trial each; the
    first is what the others are compared with) or `space` (a value for each field, drawn by
    `search`: every combination, at random, or by Optuna's TPE). Every trial runs all `seeds`,
    one after another, and its result is their mean.
    """

    name: str
    build: Callable[[Any, Sequence[Settings], int], Stage]
    metric: str
    base: Any = None
    mode: Literal["max", "min"] = "max"
    arms: Mapping[str, Settings] = field(default_factory=dict)
    space: Mapping[str, Choice | Interval] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    search: Literal["grid", "random", "optuna"] = "grid"
    samples: int = 1
    search_seed: int = 0
    stopping: Stopping = Stopping()
    show: tuple[str, ...] = ()
    """Metrics to show beside `metric`; patterns."""
    curves: tuple[str, ...] = ("loss/*",)
    """Records of training stages to draw; patterns."""
    command: Callable[[Settings], str] | None = None
    """The command that runs one trial's settings alone."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.-]*", self.name):  # a folder's name, never `..`
            raise UserError(
                f"sweep name {self.name!r}: give letters, digits, '_', '-' and '.', not at first"
            )
        if bool(self.arms) == bool(self.space):
            raise UserError(f"sweep {self.name}: give arms or a space, one of the two")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"sweep {self.name}: seeds {list(self.seeds)}: give different ones")
        if min(self.seeds) < 0:
            raise UserError(f"sweep {self.name}: seeds {list(self.seeds)}: give 0 or more")
        if self.search != "grid" and self.arms:
            raise UserError(f"sweep {self.name}: search={self.search} needs a space, not arms")
        if self.search == "grid" and any(isinstance(v, Interval) for v in self.space.values()):
            raise UserError(f"sweep {self.name}: a grid has no intervals: give choices")
        for arm, settings in self.arms.items():
            for path, value in settings.items():
                if not _is_plain(value):
                    raise UserError(
                        f"sweep {self.name}, arm {arm}: {path} is a {type(value).__name__}; give "
                        "numbers, text, booleans or tuples of them, by their own paths"
                    )
        if self.samples < 1:
            raise UserError(f"sweep {self.name}: samples={self.samples}: give at least 1")
        if self.is_population:
            if self.search != "random":
                raise UserError(f"sweep {self.name}: pbt chooses settings itself: search=random")
            segments = getattr(self.base, "segments", self.stopping.segments)
            if segments != self.stopping.segments:
                raise UserError(
                    f"sweep {self.name}: the base trains in {segments} segments, pbt in "
                    f"{self.stopping.segments}: give both the same"
                )

    @property
    def trials(self) -> int:
        """How many trials there are."""
        if self.arms:
            return len(self.arms)
        if self.search == "grid":
            return math.prod(len(v.values) for v in self.space.values() if isinstance(v, Choice))
        return self.samples

    def settings(self, parameters: Settings) -> Settings:
        """What a trial with these parameters changes."""
        return self.arms[parameters[ARM]] if self.arms else dict(parameters)

    def label(self, parameters: Settings) -> str:
        """A trial's name for people: its arm, or its values."""
        if self.arms:
            return str(parameters[ARM])
        names = short_names(sorted(parameters))
        return " ".join(f"{names[k]}={_short(parameters[k])}" for k in sorted(parameters))

    @property
    def is_population(self) -> bool:
        """Whether trials copy each other."""
        return self.stopping.method == "pbt"

    @property
    def segments(self) -> int:
        """In how many parts a trial is trained."""
        return self.stopping.segments if self.is_population else 1

    @property
    def is_listed(self) -> bool:
        """Whether all trials are known beforehand: arms, a grid, draws that nothing changes."""
        return self.search != "optuna" and not self.is_population

    def parameter_sets(self) -> list[Settings]:
        """Every trial's parameters where they are known beforehand; else some that could come."""
        if self.arms:
            return [{ARM: name} for name in self.arms]
        if self.search == "grid":
            choices = [v.values for v in self.space.values() if isinstance(v, Choice)]
            sets = itertools.product(*choices)
            return [dict(zip(self.space, values, strict=True)) for values in sets]
        draw = random.Random(self.search_seed)
        count = self.samples if self.is_listed else min(self.samples, 8)
        return [
            {name: _drawn(value, draw) for name, value in self.space.items()} for _ in range(count)
        ]

    def definition(self) -> dict[str, Any]:
        """What decides the results, as JSON data: a sweep goes on only where this is the same."""
        build = self.build
        base = json.dumps(canonical(self.base), sort_keys=True) if self.base is not None else ""
        return {
            "build": f"{build.__module__}:{build.__qualname__}",
            "base": hashlib.sha256(base.encode()).hexdigest()[:12],
            "metric": self.metric,
            "mode": self.mode,
            "arms": {name: canonical(dict(s)) for name, s in self.arms.items()},
            "space": {name: canonical(value) for name, value in self.space.items()},
            "seeds": list(self.seeds),
            "search": self.search,
            "samples": self.samples,
            "search_seed": self.search_seed,
            "stopping": canonical(self.stopping),
        }


def _drawn(value: Choice | Interval, draw: random.Random) -> Any:
    if isinstance(value, Choice):
        return draw.choice(value.values)
    low, high = (
        (math.log(value.low), math.log(value.high)) if value.log else (value.low, value.high)
    )
    number = draw.uniform(low, high)
    number = math.exp(number) if value.log else number
    return round(number) if value.integer else number


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Dotted path → the shortest that no other path has: its last part, that and the first part
    that tells them apart (`stage1-image…learning_rate`), or all of it."""

    def forms(path: str) -> tuple[str, ...]:
        *before, last = path.split(".")
        return last, *(f"{part}…{last}" for part in before), path

    counts = Counter(form for path in paths for form in set(forms(path)))
    return {path: next(form for form in forms(path) if counts[form] == 1) for path in paths}


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def numbers(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """A stage's metrics → its finite numbers by path, `a/b` for nested ones."""
    found: dict[str, float] = {}
    for key, value in metrics.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= numbers(value, f"{path}/")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            continue
        elif math.isfinite(value):
            found[path] = float(value)
    return found
