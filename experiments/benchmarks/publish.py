"""Writes docs/performance.md from the newest results of every benchmark.

    python experiments/benchmarks/publish.py [--check]

Reads `experiments/results/*.json` and the questions in `experiments/benchmarks/questions.py`. Each
row comes from the newest file that holds it. `--check` writes nothing and ends with 1 when the page
is not what this program would write.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.benchmarks.questions import BENCHMARKS, PEERS, Benchmark
from experiments.pages import write_or_check
from momo_platform.sweeps.rows import figure

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "experiments" / "results"
PAGE = ROOT / "docs" / "performance.md"

_DATED = re.compile(r"(?P<name>[a-z0-9]+)(-[a-z0-9-]+?)?-(?P<date>\d{4}-\d\d-\d\d)\.json")
_HEAD = """# How fast it is

*Written by `python experiments/benchmarks/publish.py` from the benchmarks' own results. Edit those,
or the questions in `experiments/benchmarks/questions.py`, not this page.*

Every benchmark runs its peer beside ours: same machine, same inputs, in turn, and takes the median
of several runs. *Ratio* is our figure divided by the peer's: for times and memory a small ratio is
good, for rates a large one; behind it stand the smallest and the largest ratio of two runs that
were measured one after the other. A *goal* is what the benchmark's script asks for, and the median
decides; "by the median" is said where single pairs of runs lie on both sides of the goal, so that
another day may decide otherwise. A goal that is missed stays here as missed. The JSON holds every
run, the commit, the machine and the date.
"""


@dataclass(frozen=True)
class Measured:
    """A row of a benchmark and the file that it is from."""

    row: Mapping[str, Any]
    file: str
    machine: str

    @property
    def verdict(self) -> str:
        if not self.row["goal"]:
            return ""
        told = "met" if self.row["met"] else "**missed**"
        return f"{told} by the median" if self.is_close else told

    @property
    def spread(self) -> tuple[float, float] | None:
        """The smallest and the largest ratio of paired runs; None for single runs, and where times
        of a few rounded milliseconds make no ratio."""
        ours, theirs = self.row["runs"], self.row["peer_runs"]
        if len(ours) != len(theirs) or len(ours) < 2 or not all(theirs):
            return None
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        low, high = min(ratios), max(ratios)
        return (low, high) if low <= self.row["ratio"] <= high else None

    @property
    def is_close(self) -> bool:
        """Whether pairs of runs lie on both sides of a bound of the ratio."""
        if self.spread is None:
            return False
        low, high = self.spread
        bounds = [float(b) for b in re.findall(r"ratio [≤≥] (\S+)", self.row["goal"])]
        return any(low < bound < high for bound in bounds)


def newest(benchmark: Benchmark, results: Path) -> list[Measured]:
    """Each row (a name and a peer) from the newest file that has it; of two files of one day from
    the one whose name sorts last. In the page's order."""
    files = [
        (match["date"], file.name, file)
        for file in results.glob("*.json")
        if (match := _DATED.fullmatch(file.name)) and match["name"] == benchmark.records
    ]
    found: dict[tuple[str, str], Measured] = {}
    for _, name, file in sorted(files):
        content = json.loads(file.read_text(encoding="utf-8"))
        for row in content["rows"]:
            found[row["name"], row["peer"]] = Measured(row, name, content["machine"])
    order = {name: place for place, name in enumerate(benchmark.rows)}
    shown = [m for m in found.values() if m.row["name"] in order or m.row["goal"]]
    return sorted(shown, key=lambda m: order.get(m.row["name"], len(order)))


def unknown_records(results: Path) -> list[str]:
    """Results of a benchmark that `questions.py` does not name."""
    known = {benchmark.records for benchmark in BENCHMARKS}
    return [
        file.name
        for file in sorted(results.glob("*.json"))
        if (match := _DATED.fullmatch(file.name)) and match["name"] not in known
        if "peer" in next(iter(json.loads(file.read_text(encoding="utf-8")).get("rows", [])), {})
    ]


def goal_in_words(goal: str) -> str:
    """'ratio ≤ 1.3 and value ≤ 10 s' → 'at most 1.3 × and at most 10 s'."""
    told = []
    for part in filter(None, goal.split(" and ")):
        what, sign, bound = part.split(" ", 2)
        least = {"≤": "at most", "≥": "at least"}[sign]
        told.append(f"{least} {float(bound):.3g} ×" if what == "ratio" else f"{least} {bound}")
    return " and ".join(told) or "–"


def _line(measured: Measured, names: Mapping[str, str]) -> str:
    row, unit = measured.row, measured.row["unit"]
    unit = {"of one process": "of one"}.get(unit, unit)
    peer = PEERS.get(row["peer"], row["peer"])
    ours, theirs = (f"{figure(row[key], 3)} {unit}" for key in ("value", "peer_value"))
    cells = [
        names.get(row["name"], row["name"]),
        ours,
        f"{peer}: {theirs}",
        f"{figure(row['ratio'], 3)} ×" + _range(measured.spread),
        goal_in_words(row["goal"]),
        measured.verdict,
        f"[JSON](../experiments/results/{measured.file})",
    ]
    return f"| {' | '.join(cells)} |"


def _range(spread: tuple[float, float] | None) -> str:
    return f" ({figure(spread[0], 3)} to {figure(spread[1], 3)})" if spread else ""


def _section(benchmark: Benchmark, rows: Sequence[Measured]) -> list[str]:
    return [
        f"## {benchmark.title}",
        "",
        f"{benchmark.question} "
        f"([`{benchmark.script}`](../experiments/benchmarks/{benchmark.script}))",
        "",
        "| | ours | beside | ratio | goal | | from |",
        "|---|---|---|---|---|---|---|",
        *(_line(measured, benchmark.rows) for measured in rows),
        "",
        *([benchmark.note, ""] if benchmark.note else []),
    ]


def page(results: Path = RESULTS) -> str:
    """The whole page, as Markdown. Raises ValueError for results that no benchmark asks for."""
    if unknown := unknown_records(results):
        raise ValueError(
            f"{', '.join(unknown)}: no benchmark in experiments/benchmarks/questions.py has "
            "results of this name; add it there"
        )
    measured = [(benchmark, newest(benchmark, results)) for benchmark in BENCHMARKS]
    with_goal = [(b, m) for b, rows in measured for m in rows if m.row["goal"]]
    missed = [(b, m) for b, m in with_goal if not m.row["met"]]
    met = len(with_goal) - len(missed)
    close = sum(m.row["met"] and m.is_close for _, m in with_goal)
    machines = sorted({m.machine for _, rows in measured for m in rows})
    lines = [
        _HEAD,
        f"Machines: {'; '.join(machines)}.",
        "",
        f"Of {len(with_goal)} goals {met} {'is' if met == 1 else 'are'} met"
        f"{f' ({close} by the median only)' if close else ''} and {len(missed)} "
        f"missed{':' if missed else '.'}",
        "",
    ]
    for benchmark, m in missed:
        name = benchmark.rows.get(m.row["name"], m.row["name"])
        peer = PEERS.get(m.row["peer"], m.row["peer"])
        lines.append(
            f"- {benchmark.title}: {name}, {figure(m.row['ratio'], 3)} × beside {peer}; "
            f"goal {goal_in_words(m.row['goal'])}"
        )
    lines += [""] if missed else []
    for benchmark, rows in measured:
        lines += _section(benchmark, rows) if rows else []
    if absent := [benchmark for benchmark, rows in measured if not rows]:
        lines += ["## Not measured yet", ""]
        lines += [
            f"- **{b.title}** ([`{b.script}`](../experiments/benchmarks/{b.script})). {b.question}"
            + (f" {b.note}" if b.note else "")
            for b in absent
        ]
        lines.append("")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 1 for a stale page with `--check`."""
    return write_or_check(PAGE, page, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
