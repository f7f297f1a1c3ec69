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


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds with its 95 % interval; no interval (None) for a single one."""

    mean: float
    low: float | None
    high: float | None
    n: int

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:.4g}"
        return f"{self.mean:.4g} ({self.low:.4g} – {self.high:.4g})"


def estimate(values: Sequence[float]) -> Estimate:
    """Student's t over independent seeds. Raises ValueError for no values."""
    if not len(values):
        raise ValueError("no values to take the mean of")
    mean = float(np.mean(values))
    if len(values) == 1:
        return Estimate(mean, None, None, 1)
    from scipy import stats

    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return Estimate(mean, mean - float(half), mean + float(half), len(values))


@dataclass(frozen=True)
class Row:
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

    def estimate(self, metric: str) -> Estimate | None:
        values = self.values(metric)
        return estimate(values) if values else None

    def differences(self, other: Row, metric: str) -> dict[str, float]:
        """Seed → this row less `other`, where both have the metric."""
        return {
            seed: numbers[metric] - other.seeds[seed][metric]
            for seed, numbers in self.seeds.items()
            if metric in numbers and metric in other.seeds.get(seed, {})
        }

    def difference(self, other: Row, metric: str) -> Estimate | None:
        """This row less `other`, paired by seed."""
        found = list(self.differences(other, metric).values())
        return estimate(found) if found else None


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
    rows: Sequence[Row]

    @property
    def ranked(self) -> list[Row]:
        """Finished rows, best first."""
        found = [(r.estimate(self.metric), r) for r in self.rows if r.state == "done"]
        known = [(e.mean, r) for e, r in found if e is not None]
        return [r for _, r in sorted(known, key=lambda pair: pair[0], reverse=self.mode == "max")]

    @property
    def reference(self) -> Row | None:
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
        rows = [Row(**row) for row in values.pop("rows")]
        return Results(**values, rows=rows)
    except OSError as error:
        raise UserError(
            f"{file}: {error.strerror}; give a sweep's folder or its results.json"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: not a sweep's results.json ({error!r})") from error


def shown_metrics(metric: str, patterns: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """`metric`, then those that match a pattern, in the patterns' order."""
    known = list(dict.fromkeys(n for r in rows for numbers in r.seeds.values() for n in numbers))
    found = [n for p in patterns for n in known if fnmatch.fnmatchcase(n, p)]
    return list(dict.fromkeys([metric, *found]))
