"""What the tables of the pages say of a result: numbers as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from momo_platform.charts import interval_mark
from pipelines.evaluation.scores import learnt, verdict
from pipelines.report.seeds import told as seeds
from pipelines.report.words import metric_in_words


def number(value: float | None) -> str:
    """'0.903', '12.5'; '–' where there is none."""
    if value is None or value != value:
        return "–"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def method(row: Mapping[str, Any]) -> str:
    """'linear probe, accuracy'."""
    return f"{row['protocol'].replace('_', ' ')}, {metric_in_words(row['metric'])}"


def others(row: Mapping[str, Any]) -> list[str]:
    """The other numbers of the result: 'R@5 0.600, median rank 4'. Of retrieval those of the row's
    own direction; where it has none, of each: 'caption to picture: R@1 …'. Empty where there are
    none."""
    own = metric_in_words(row["metric"]).rpartition(", ")[0]
    found: dict[str, list[tuple[str, str]]] = {}
    for name, numbers in row["values"].items():
        direction, _, measure = metric_in_words(name).rpartition(", ")
        if name == row["metric"] or (own and direction != own):
            continue
        value = numbers["value"]
        told = f"{value:g}" if name.endswith("rank") else number(value)
        found.setdefault(direction, []).append((measure, told))
    lines = []
    for direction, measures in found.items():
        text = ", ".join(f"{m} {told}" for m, told in sorted(measures, key=_by_rank))
        lines.append(f"{direction}: {text}" if direction and not own else text)
    return lines


def _by_rank(measure: tuple[str, str]) -> tuple[int, str]:
    """R@1 before R@5 before R@10, then the rest."""
    name, _, rank = measure[0].partition("@")
    return (int(rank) if rank.isdigit() else 1000, name)


def mark(row: Mapping[str, Any]) -> str:
    """The interval as a picture, beside the baseline, chance and the untrained model; '' where
    there is none."""
    if row["low"] is None:
        return ""
    return interval_mark(
        row["value"],
        row["low"],
        row["high"],
        {
            "chance": row.get("chance"),
            "untrained": row.get("untrained"),
            "trivial": row.get("baseline"),
        },
        f"{number(row['value'])}, interval {number(row['low'])} to {number(row['high'])}",
    )


def grouped(
    rows: Mapping[str, Mapping[str, Any]], groups: Sequence[str]
) -> list[tuple[str, list[tuple[str, Mapping[str, Any]]]]]:
    """(group, its rows by name): those of `groups` first, in their order."""
    found: dict[str, list[tuple[str, Mapping[str, Any]]]] = {group: [] for group in groups}
    for name, row in rows.items():
        found.setdefault(row["group"], []).append((name, row))
    return [(group, members) for group, members in found.items() if members]


CELLS = {
    "number": number,
    "verdict": verdict,
    "learnt": learnt,
    "method": method,
    "others": others,
    "mark": mark,
    "grouped": grouped,
    "seeds": seeds,
}
"""For the templates."""
