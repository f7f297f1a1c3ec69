"""What all benchmarks share: runs in turn, their medians, processes of their own, a command line
that prints one JSON document."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from momo_platform.machine import machine_description, with_our_modules
from momo_platform.stages.manifest import git_commit

ROOT = Path(__file__).resolve().parents[2]
Name = TypeVar("Name")
Value = TypeVar("Value")


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
    ours, theirs = ([round(x, 3) for x in values] for values in (runs, peer_runs))
    value, other, ratio = round(value, 3), round(other, 3), round(ratio, 3)
    return Row(name, value, unit, peer, other, ratio, " and ".join(goals), met, ours, theirs)


def say(line: str) -> None:
    """Progress, on standard error."""
    print(line, file=sys.stderr, flush=True)


def in_turn(
    runs: int, calls: Mapping[Name, Callable[[], Value]], what: str, *, warm_ups: int = 0
) -> dict[Name, list[Value]]:
    """What each call gives, one after the other, `runs` times; rounds before them don't count.
    `what` is said with each round's values."""
    found: dict[Name, list[Value]] = {name: [] for name in calls}
    for run in range(-warm_ups, runs):
        values = {name: call() for name, call in calls.items()}
        say(f"{what} {run + 1}/{runs}: {', '.join(f'{n} {_short(v)}' for n, v in values.items())}")
        for name, value in values.items() if run >= 0 else ():
            found[name].append(value)
    return found


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({', '.join(f'{name} {_short(one)}' for name, one in value.items())})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def started(function: Callable[..., Any], *arguments: Any) -> subprocess.Popen[str]:
    """A process that calls a function of a module, by its file and name, with `arguments` that JSON
    can hold, and prints what it returns as JSON."""
    file = Path(function.__code__.co_filename).resolve().relative_to(ROOT)
    place = [".".join(file.with_suffix("").parts), function.__name__, json.dumps(arguments)]
    command = [sys.executable, "-m", "experiments.benchmarks.harness", *place]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=with_our_modules())


def in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function(*arguments)` returns in a process of its own. Raises CalledProcessError where
    that fails; its error stands on standard error."""
    process = started(function, *arguments)
    printed, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, function.__name__)
    return json.loads(printed)


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


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Described by a docstring's first line, with the option that every benchmark has."""
    made = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    made.add_argument("--quick", action="store_true", help="small and once: a test of the script")
    return made


def finish(rows: Sequence[Row], **more: Any) -> int:
    """Print the JSON document; exit code 1 when a goal is missed."""
    print(document(rows, **more))
    return 0 if all(row.met for row in rows) else 1


def main(
    doc: str | None,
    parts: Mapping[str, Callable[[bool], Iterable[Row]]],
    more: Callable[[], Mapping[str, Any]] = dict,
) -> int:
    """A benchmark's command. A part makes its rows, given whether `--quick` was; `--only WORD`
    leaves out those whose names don't contain it. `more`: what else the document says."""
    options = parser(doc)
    if len(parts) > 1:
        options.add_argument("--only", default="", metavar="WORD", help=" or ".join(parts))
    given = vars(options.parse_args())
    chosen = [part for name, part in parts.items() if given.get("only", "") in name]
    with contextlib.redirect_stdout(sys.stderr):  # Ray writes there too
        rows = [row for part in chosen for row in part(given["quick"])]
    return finish(rows, **more())


if __name__ == "__main__":
    module, name, arguments = sys.argv[1:]
    print(json.dumps(getattr(import_module(module), name)(*json.loads(arguments))))
