"""What the stage graph costs: planning, running again, and a stage that does nothing.

    python experiments/benchmarks/graph.py [--quick]

Peers, in the same run: for a stage, a plain Ray task that does nothing in a graph of the same
shape (a chain, or all side by side); for planning, a graph of ten stages; for running a finished
graph again, Ray's own start. About 4 minutes.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from experiments.benchmarks.harness import Row, compare, main, say
from momo_platform.cluster import start_ray
from momo_platform.stages import Artifact, Context, Stage, make_plan, open_storage
from momo_platform.stages.executor import execute

SIZES = (10, 100, 1000)
SHAPES = ("chain", "wide")


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


def plain(shape: str, size: int) -> None:
    """The same shape of plain Ray tasks, eight at a time."""
    import ray

    @ray.remote(num_cpus=0)
    def nothing(_: object = None) -> None:
        return None

    if shape == "chain":
        for _ in range(size):
            ray.get(nothing.remote())
    else:
        waiting: list[Any] = []
        for _ in range(size):
            waiting.append(nothing.remote())
            if len(waiting) >= 8:
                _, waiting = ray.wait(waiting)
        ray.get(waiting)


def run_once(sizes: Sequence[int], taken: dict[Any, list[float]]) -> None:
    """All shapes and sizes on a Ray of their own. Adds seconds to `taken`: of a graph of stages and
    of plain tasks (`stage` or `plain`, shape, size), of planning a chain of which nothing is made
    (`plan`, size); of the largest chain once it is made planned and run again (`cached`, `again`);
    of Ray's start."""

    def add(key: Any, work: Callable[[], object]) -> None:
        started = time.perf_counter()
        work()
        taken[key].append(time.perf_counter() - started)

    def plan(targets: list[Stage], expected: int) -> None:
        assert len(make_plan(targets, storage).to_run) == expected

    def run(targets: list[Stage]) -> None:
        execute(make_plan(targets, storage), storage)

    with ExitStack() as stack:
        add("start", lambda: stack.enter_context(start_ray("local", num_cpus=2)))
        storage = open_storage(stack.enter_context(tempfile.TemporaryDirectory()))
        run(graph("wide", 8, -1))  # worker processes start
        plain("wide", 8)
        for shape, size in itertools.product(SHAPES, sizes):
            targets = graph(shape, size, size)
            if shape == "chain" and size in (sizes[0], sizes[-1]):
                add(("plan", size), partial(plan, targets, size))
            add(("plain", shape, size), partial(plain, shape, size))
            add(("stage", shape, size), partial(run, targets))
            if (shape, size) == ("chain", sizes[-1]):
                add("cached", partial(plan, targets, 0))
                add("again", partial(run, targets))


def rows(quick: bool) -> list[Row]:
    """Planning, running again, and what a stage costs beyond a plain task."""
    runs, sizes = (1, (10, 30)) if quick else (5, SIZES)
    taken: dict[Any, list[float]] = defaultdict(list)
    for run in range(runs):
        run_once(sizes, taken)
        say(f"run {run + 1}/{runs} done")
    least, most = sizes[0], sizes[-1]
    few, many = taken["plan", least], taken["plan", most]
    peer = f"planning {least} stages"
    again = f"run {most} finished stages again, Ray's start apart"
    found = [
        compare(f"plan {most} stages, none made", many, peer, few, largest_value=0.5),
        compare(
            *(f"plan {most} stages, all made", taken["cached"], f"{peer}, none made", few),
            largest_value=0.5,
        ),
        compare(again, taken["again"], "Ray's own start", taken["start"], largest_value=10.0),
    ]
    cost = {key[1:]: [1000 * s / key[2] for s in taken[key]] for key in taken if key[0] == "stage"}
    for (shape, size), ours in cost.items():
        alone = [1000 * s / size for s in taken["plain", shape, size]]
        found.append(
            compare(
                f"{shape} of {size}: a stage that does nothing, beyond Ray's task",
                [a - b for a, b in zip(ours, alone, strict=True)],
                "a plain Ray task in the same shape",
                alone,
                unit="ms",
                largest_value=50.0,
            )
        )
    return found + [
        compare(
            *(f"{shape}: cost a stage at {most} stages", cost[shape, most]),
            *(f"at {least} stages", cost[shape, least]),
            unit="ms",
            largest_ratio=1.2,
        )
        for shape in SHAPES
    ]


if __name__ == "__main__":
    sys.exit(main(__doc__, {"": rows}))
