"""Results of a sweep: a row a trial, means with intervals, differences paired by seed."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from momo_platform.files import write_whole
from momo_platform.stages import UserError

State = Literal["done", "stopped", "failed", "not run"]
SAMPLE = "sample/"
"""Before the path of a metric: its interval over the test examples, as `low` and `high`."""


def figure(value: float, digits: int = 4, sign: str = "") -> str:
    """So many significant digits, without an exponent where a person reads on: '0.0123', '1,242'.

    `sign`: '+' writes that of positive numbers too."""
    if 1000 <= abs(value) < 1e9:
        return f"{value:{sign},.0f}"
    return f"{value:{sign}.{digits}g}"


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds with its 95 % interval; no interval (None) for a single one."""

    mean: float
    low: float | None
    high: float | None
    n: int

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return figure(self.mean)
        return f"{figure(self.mean)} ({figure(self.low)} – {figure(self.high)})"


def estimate(values: Sequence[float], level: float = 0.95) -> Estimate:
    """Student's t over independent seeds. Raises ValueError for no values."""
    if not len(values):
        raise ValueError("no values to take the mean of")
    mean = float(np.mean(values))
    if len(values) == 1:
        return Estimate(mean, None, None, 1)
    from scipy import stats

    n = len(values)
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return Estimate(mean, mean - half, mean + half, n)


@dataclass(frozen=True)
class TrialRow:
    """One trial. `seeds`: seed → its numbers by path; `stages`: seed → stage name → fingerprint,
    where the artifacts and their learning curves lie; `history`: settings by segment."""

    trial: str
    label: str
    parameters: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    state: State
    seeds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    stages: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    seconds: float = 0.0
    steps: int = 0
    error: str = ""

    @property
    def cause(self) -> str:
        """The error in one line: which stage, and the last line of its traceback. What else did
        not run for it is left out."""
        lines = [
            line.strip()
            for line in self.error.splitlines()
            if line.strip() and not re.match(r"not run: |stage \S+ failed too$", line)
        ]
        if len(lines) < 2:
            return self.error.strip()
        where, failed, _ = lines[0].partition(" failed:")
        return f"{where if failed else lines[0]}: {lines[-1]}"

    def values(self, metric: str) -> list[float]:
        """By seed, of those that have the metric."""
        return [numbers[metric] for numbers in self.seeds.values() if metric in numbers]

    def estimate(self, metric: str, level: float = 0.95) -> Estimate | None:
        values = self.values(metric)
        return estimate(values, level) if values else None

    def sample(self, metric: str) -> float | None:
        """Half the width of the metric's own 95 % interval over the test examples, averaged over
        seeds; None where the trials don't give it, as `sample/<metric>/low` and `high`."""
        low, high = (self.values(f"{SAMPLE}{metric}/{end}") for end in ("low", "high"))
        return (float(np.mean(high)) - float(np.mean(low))) / 2 if low and high else None

    def told(self, metric: str) -> str:
        """The mean with its interval over seeds; where the test sample's interval is known too,
        the smallest and the largest seed and half of that interval beside it."""
        found, sample = self.estimate(metric), self.sample(metric)
        if found is None or sample is None:
            return str(found or "–")
        values = self.values(metric)
        seeds = f"seeds {figure(min(values), 3)} to {figure(max(values), 3)}, "
        return f"{found}; {seeds if found.n > 1 else ''}sample ±{figure(sample, 2)}"

    def differences(self, other: TrialRow, metric: str) -> dict[str, float]:
        """Seed → this row less `other`, where both have the metric."""
        return {
            seed: numbers[metric] - other.seeds[seed][metric]
            for seed, numbers in self.seeds.items()
            if metric in numbers and metric in other.seeds.get(seed, {})
        }

    def difference(self, other: TrialRow, metric: str) -> Estimate | None:
        """This row less `other`, paired by seed."""
        found = list(self.differences(other, metric).values())
        return estimate(found) if found else None


@dataclass(frozen=True)
class Best:
    """The first of the ranked rows, of which there are `others` more. `rivals`: rows whose
    intervals, widened for the number of trials, overlap with its own, or all others where there is
    no interval to tell them apart. `searched`: whether it was sought among draws of a space."""

    row: TrialRow
    estimate: Estimate
    rivals: Sequence[TrialRow]
    others: int
    searched: bool = False

    @property
    def is_clear(self) -> bool:
        """Whether its interval leaves those of all others."""
        return self.others > 0 and not self.rivals and self.estimate.low is not None

    def in_words(self, metric: str, mode: str) -> str:
        """Sentences that claim no winner where there is none."""
        told = self._told(metric, mode)
        if self.searched and self.others:
            extreme = "largest" if mode == "max" else "smallest"
            told += (
                f" It was picked as the {extreme} of {self.others + 1}, so its {metric} flatters "
                "it: measure it again with seeds that were not searched with."
            )
        return told

    def _told(self, metric: str, mode: str) -> str:
        seeds = f"{self.estimate.n} seed{'s' if self.estimate.n != 1 else ''}"
        told = f"{self.row.label}: {metric} {self.estimate} with {seeds}."
        if not self.others:
            return f"{told} No other trial has a result."
        extreme = "largest" if mode == "max" else "smallest"
        if self.estimate.low is None:
            return f"{told} It has the {extreme} value, but one seed can't say whether it is best."
        if not self.rivals:
            return (
                f"{told} Its interval, widened for {self.others + 1} trials, overlaps with that of "
                "no other trial."
            )
        names = [row.label for row in self.rivals[:3]]
        more = f" and {len(self.rivals) - 3} more" if len(self.rivals) > 3 else ""
        return (
            f"{told} It has the {extreme} mean, but is no clear winner: its interval, widened for "
            f"{self.others + 1} trials, overlaps with "
            f"{'that' if len(self.rivals) == 1 else 'those'} of {', '.join(names)}{more}."
        )


def ranked(rows: Sequence[TrialRow], metric: str, mode: str) -> list[TrialRow]:
    """Finished rows that have the metric, best first."""
    found = [(r.estimate(metric), r) for r in rows if r.state == "done"]
    known = [(e.mean, r) for e, r in found if e is not None]
    return [r for _, r in sorted(known, key=lambda pair: pair[0], reverse=mode == "max")]


def best_of(
    rows: Sequence[TrialRow], metric: str, mode: str, *, searched: bool = False
) -> Best | None:
    """The best of the finished rows and who rivals it; None where none is finished. So that being
    the best of many is no proof by itself, intervals are Bonferroni's over the trials."""
    order = ranked(rows, metric, mode)
    if not order:
        return None
    first, *others = order
    mine = first.estimate(metric)
    assert mine is not None
    level = 1 - 0.05 / len(order)
    wide = first.estimate(metric, level)
    assert wide is not None
    rivals = [row for row in others if _overlap(wide, row.estimate(metric, level))]
    return Best(first, mine, rivals, len(others), searched)


def _overlap(one: Estimate, other: Estimate | None) -> bool:
    if one.low is None or one.high is None:
        return True
    if other is None or other.low is None or other.high is None:
        return True
    return one.low <= other.high and other.low <= one.high


@dataclass(frozen=True)
class Results:
    """A whole sweep as it is written to `results.json`."""

    name: str
    metric: str
    mode: str
    command: str
    commit: str
    machine: str
    created: str
    seconds: float
    definition: Mapping[str, Any]
    shown: Sequence[str]
    rows: Sequence[TrialRow]
    plan: Mapping[str, Any] = field(default_factory=dict)
    """What was fixed before the first trial; empty where nothing was."""
    comparisons: Sequence[Mapping[str, Any]] = field(default_factory=list)
    """Of arms with the first, by `metric`: as `comparisons.Comparison`, for other programs."""

    @property
    def ranked(self) -> list[TrialRow]:
        """Finished rows, best first."""
        return ranked(self.rows, self.metric, self.mode)

    @property
    def best(self) -> Best | None:
        """The first of them, and who rivals it."""
        searched = bool(self.definition.get("space"))
        return best_of(self.rows, self.metric, self.mode, searched=searched)

    @property
    def reference(self) -> TrialRow | None:
        """The first arm, where the sweep has arms and it is done."""
        arms = list(self.definition["arms"])
        rows = [r for r in self.rows if arms and r.label == arms[0] and r.state == "done"]
        return rows[0] if rows else None

    def write(self, file: Path) -> None:
        """As JSON, whole or not at all."""
        write_whole(file, json.dumps(asdict(self), indent=1))


def read_results(file: Path) -> Results:
    """Raises UserError for a file that is no sweep's results."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        rows = [TrialRow(**row) for row in values.pop("rows")]
        return Results(**values, rows=rows)
    except OSError as error:
        raise UserError(
            f"{file}: {error.strerror}; give a sweep's folder or its results.json"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: not a sweep's results.json ({error!r})") from error


def shown_metrics(metric: str, patterns: Sequence[str], rows: Sequence[TrialRow]) -> list[str]:
    """`metric`, then those that match a pattern, in the patterns' order."""
    known = list(dict.fromkeys(n for r in rows for numbers in r.seeds.values() for n in numbers))
    found = [n for p in patterns for n in known if fnmatch.fnmatchcase(n, p)]
    return list(dict.fromkeys([metric, *found]))
