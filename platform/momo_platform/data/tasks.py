"""Functions over many small tasks by Ray Data, or in this process where no Ray runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa

from momo_platform.stages.errors import UserError

Task = dict[str, Any]
Step = Callable[[Task], Iterable[Task]]
_COLUMN = "task"


def run_tasks(tasks: Sequence[Task], *steps: Step, memory: int = 0) -> Iterator[Task]:
    """Each task (of plain values) through `steps`, each of which may make several of one; results
    as they come, in no order. `memory`: bytes that a task of the last step takes.

    What goes from step to step must be small: all else is for the storage. So nothing fills Ray's
    object store, however far one step is ahead of the next, and Ray Data needs no reservation of
    resources to hold it back, which would start a task only a second after the one before and idle
    0.2 s between tasks (Ray 2.60, docs/experiments.md). A task that dies is run again.

    Raises the UserError that a step raises.
    """
    if not _on_ray():
        found: Iterable[Task] = tasks
        for step in steps:
            found = _each(step, found)
        yield from found
        return
    import ray

    blocks = [_packed(task) for task in tasks]
    if not blocks:
        return
    dataset = ray.data.from_arrow(blocks)
    for number, step in enumerate(steps, start=1):
        # Steps of other needs are not fused: the next one's tasks run beside this one's.
        needs = 1 if number < len(steps) else min(memory, _largest_memory()) or None
        function: Any = _on_tables(step)
        dataset = dataset.map_batches(
            function, batch_format="pyarrow", batch_size=None, memory=needs
        )
    yield from _results(dataset)


def _on_ray() -> bool:
    import ray

    return ray.is_initialized()


@dataclass(frozen=True)
class Actors:
    """`count` processes, each with so many CPUs and GPUs. `count` 0: as many as the machines that
    are there have room for."""

    count: int = 0
    cpus: float = 1.0
    gpus: float = 0.0

    def fitting(self, tasks: int) -> int:
        """How many are started for so many tasks."""
        import ray

        there = ray.cluster_resources()
        asked = {"CPU": self.cpus, "GPU": self.gpus}
        room = [int(there.get(name, 0.0) / each) for name, each in asked.items() if each > 0]
        return max(1, min(self.count or min(room, default=1), tasks))


def gpus_each(asked: float | None) -> float:
    """GPUs of each actor: what is asked for; None: one where the cluster has any."""
    if asked is not None or not _on_ray():
        return asked or 0.0
    import ray

    return float(ray.cluster_resources().get("GPU", 0.0) >= 1)


def run_on_actors(
    tasks: Sequence[Task], make: Callable[[], Step], actors: Actors
) -> Iterator[Task]:
    """As `run_tasks`, each task through the step that `make` returns: it is made once a process,
    for what takes long to load. A process that dies is started again, and its tasks are run again.
    Without Ray there is one, here."""
    if not _on_ray():
        yield from _each(make(), tasks)
        return
    if not tasks:
        return
    import ray

    dataset = ray.data.from_arrow([_packed(task) for task in tasks]).map_batches(
        cast("Any", _OnTables),
        fn_constructor_args=(make,),
        compute=ray.data.ActorPoolStrategy(
            size=actors.fitting(len(tasks)), max_tasks_in_flight_per_actor=2
        ),
        batch_format="pyarrow",
        batch_size=None,
        num_cpus=actors.cpus,
        num_gpus=actors.gpus or None,
    )
    yield from _results(dataset)


def _results(dataset: Any) -> Iterator[Task]:
    context = dataset.context
    context.enable_progress_bars = False
    context.raise_original_map_exception = True  # its cause would be lost on the way here
    context.op_resource_reservation_enabled = False
    context.target_max_block_size = 1  # bytes: each task is a block, and so is taken on its own
    try:
        for table in dataset.iter_batches(batch_format="pyarrow", batch_size=None):
            yield from map(json.loads, cast("pa.Table", table)[_COLUMN].to_pylist())
    except Exception as error:
        if (told := _user_error(error)) is not None:
            raise told from error
        raise


def _each(step: Step, tasks: Iterable[Task]) -> Iterator[Task]:
    for task in tasks:
        yield from step(task)


def _packed(task: Task) -> pa.Table:
    return pa.table({_COLUMN: [json.dumps(task)]})


def _on_tables(step: Step) -> Callable[[pa.Table], Iterator[pa.Table]]:
    """A step as Ray Data calls it, with its own name."""

    def on_table(table: pa.Table) -> Iterator[pa.Table]:
        yield from _through(step, table)

    on_table.__name__ = getattr(step, "func", step).__name__
    return on_table


def _through(step: Step, table: pa.Table) -> Iterator[pa.Table]:
    for raw in table[_COLUMN].to_pylist() if _COLUMN in table.column_names else ():
        yield from map(_packed, step(json.loads(raw)))


class _OnTables:
    """A step as Ray Data calls it in an actor."""

    def __init__(self, make: Callable[[], Step]) -> None:
        self._step = make()

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        yield from _through(self._step, table)


def _largest_memory() -> int:
    """Of the machine with the most, what Ray gives its tasks in all."""
    import ray

    return int(max((n["Resources"].get("memory", 0) for n in ray.nodes() if n["Alive"]), default=0))


def _user_error(error: BaseException) -> UserError | None:
    """The one that a task raised, behind what Ray and Ray Data wrap around it."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, UserError) and not type(one).__module__.startswith("ray."):
            return one
        waiting += [getattr(one, "cause", None), one.__cause__, one.__context__]
    return None
