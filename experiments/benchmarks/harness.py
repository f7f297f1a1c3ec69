"""What all benchmarks share: medians of interleaved runs, one JSON document."""

from __future__ import annotations

import datetime
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from momo_platform.machine import machine_description
from momo_platform.stages.manifest import git_commit


@dataclass(frozen=True)
class Row:
    """One measured value beside its peer's; `goal` is about the ratio or, in words, the value."""

    name: str
    value: float
    unit: str
    peer: str
    peer_value: float
    ratio: float
    goal: str
    met: bool
    runs: Sequence[float]
    peer_runs: Sequence[float]


def compare(
    name: str,
    runs: Sequence[float],
    peer: str,
    peer_runs: Sequence[float],
    *,
    unit: str = "s",
    largest_ratio: float | None = None,
    least_ratio: float | None = None,
    largest_value: float | None = None,
) -> Row:
    """Medians of both; met when neither bound is passed."""
    value, other = statistics.median(runs), statistics.median(peer_runs)
    ratio = value / other
    goals, met = [], True
    if largest_ratio is not None:
        goals.append(f"ratio ≤ {largest_ratio:g}")
        met &= ratio <= largest_ratio
    if least_ratio is not None:
        goals.append(f"ratio ≥ {least_ratio:g}")
        met &= ratio >= least_ratio
    if largest_value is not None:
        goals.append(f"value ≤ {largest_value:g} {unit}")
        met &= value <= largest_value
    rounded = [round(x, 3) for x in runs]
    return Row(
        name,
        round(value, 3),
        unit,
        peer,
        round(other, 3),
        round(ratio, 3),
        " and ".join(goals),
        met,
        rounded,
        [round(x, 3) for x in peer_runs],
    )


def document(rows: Sequence[Row], **more: Any) -> str:
    """The benchmark's result as JSON; `more` goes between the date and the rows."""
    return json.dumps(
        {
            "machine": machine_description(),
            "commit": git_commit(),
            "date": datetime.date.today().isoformat(),
            **more,
            "rows": [asdict(row) for row in rows],
        },
        indent=1,
        ensure_ascii=False,
    )
