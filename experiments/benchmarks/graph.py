"""What the stage graph costs: planning, running again, and a stage that does nothing.

    python experiments/benchmarks/graph.py [--quick]

Peers, in the same run: for a stage, a plain Ray task that does nothing in a graph of the same
shape (a chain, or all side by side); for planning, a graph of ten stages; for running a finished
graph again, Ray's own start. About 4 minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.benchmarks.harness import Row, compare, document
from momo_platform.cluster import start_ray
from momo_platform.stages import Artifact, Context, Stage, Storage, make_plan, open_storage
from momo_platform.stages.executor import execute

SIZES = (10, 100, 1000)


@dataclass(frozen=True)
class Number:
    """A config whose value tells runs apart."""

    value: int


def do_nothing(config: Number, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
    """Stage: one byte, so that there is a file to check."""
    (context.output / "x").write_bytes(b"x")
    return {}


def graph(shape: str, size: int, value: int) -> list[Stage]:
    """`size` stages and their targets: a chain, or all side by side."""
    if shape == "wide":
        return [Stage(f"wide{i}", do_nothing, Number(value)) for i in range(size)]
    last: Stage | None = None
    for i in range(size):
        last = Stage(f"chain{i}", do_nothing, Number(value), {"up": last} if last else {})
    assert last is not None
    return [last]


def plain_seconds(shape: str, size: int, at_once: int) -> float:
    """The same shape of plain Ray tasks."""
    import ray

    @ray.remote(num_cpus=0)
    def nothing(_: object = None) -> None:
        return None

    started = time.perf_counter()
    if shape == "chain":
        for _ in range(size):
            ray.get(nothing.remote())
    else:
        waiting: list[Any] = []
        for _ in range(size):
            waiting.append(nothing.remote())
            if len(waiting) >= at_once:
                _, waiting = ray.wait(waiting)
        ray.get(waiting)
    return time.perf_counter() - started


def plan_seconds(storage: Storage, targets: list[Stage], expected: int) -> float:
    """Planning alone."""
    started = time.perf_counter()
    plan = make_plan(targets, storage)
    seconds = time.perf_counter() - started
    assert len(plan.to_run) == expected
    return seconds


def main() -> int:
    """Print the JSON document; exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small and once: tests the script")
    options = parser.parse_args()
    runs, sizes = (1, (10, 30)) if options.quick else (5, SIZES)
    largest = sizes[-1]
    stage_ms: dict[tuple[str, int], list[float]] = {}
    plain_ms: dict[tuple[str, int], list[float]] = {}
    plans: dict[int, list[float]] = {sizes[0]: [], largest: []}
    cached: list[float] = []
    starts: list[float] = []
    again: list[float] = []
    for run in range(runs):
        started = time.perf_counter()
        with start_ray("local", num_cpus=2), tempfile.TemporaryDirectory() as folder:
            starts.append(time.perf_counter() - started)
            storage = open_storage(folder)
            execute(make_plan(graph("wide", 8, -1), storage), storage)  # worker processes start
            plain_seconds("wide", 8, 8)
            for shape in ("chain", "wide"):
                for size in sizes:
                    key = (shape, size)
                    targets = graph(shape, size, size)
                    if shape == "chain" and size in plans:
                        plans[size].append(plan_seconds(storage, targets, size))
                    plain = plain_seconds(shape, size, at_once=8)
                    plain_ms.setdefault(key, []).append(1000 * plain / size)
                    started = time.perf_counter()
                    execute(make_plan(targets, storage), storage)
                    ms = 1000 * (time.perf_counter() - started) / size
                    stage_ms.setdefault(key, []).append(ms)
                    if key == ("chain", largest):
                        cached.append(plan_seconds(storage, targets, 0))
                        started = time.perf_counter()
                        execute(make_plan(targets, storage), storage)
                        again.append(time.perf_counter() - started)
            print(f"run {run + 1}/{runs} done", file=sys.stderr, flush=True)
    rows = [
        compare(
            f"plan {largest} stages, none made",
            plans[largest],
            f"planning {sizes[0]} stages",
            plans[sizes[0]],
            largest_value=0.5,
        ),
        compare(
            f"plan {largest} stages, all made",
            cached,
            f"planning {sizes[0]} stages, none made",
            plans[sizes[0]],
            largest_value=0.5,
        ),
        compare(
            f"run {largest} finished stages again, Ray's start apart",
            again,
            "Ray's own start",
            starts,
            largest_value=10.0,
        ),
    ]
    rows += [_overhead(key, stage_ms[key], plain_ms[key]) for key in stage_ms]
    rows += [
        compare(
            f"{shape}: cost a stage at {largest} stages",
            stage_ms[shape, largest],
            f"at {sizes[0]} stages",
            stage_ms[shape, sizes[0]],
            unit="ms",
            largest_ratio=1.2,
        )
        for shape in ("chain", "wide")
    ]
    print(document(rows))
    return 0 if all(row.met for row in rows) else 1


def _overhead(key: tuple[str, int], ours: list[float], plain: list[float]) -> Row:
    shape, size = key
    extra = [a - b for a, b in zip(ours, plain, strict=True)]
    return compare(
        f"{shape} of {size}: a stage that does nothing, beyond Ray's task",
        extra,
        "a plain Ray task in the same shape",
        plain,
        unit="ms",
        largest_value=50.0,
    )


if __name__ == "__main__":
    sys.exit(main())
