"""The Ray tasks of one run: started, waited for, cancelled; and what they report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from momo_platform.stages.board import Board, Reporter
from momo_platform.stages.stage import Resources
from momo_platform.stages.task import InputResolver, StageSpec, run_stage

_POLL_SECONDS = 0.2
_CANCEL_SECONDS = 5.0


class RayTasks:
    """Tasks by their stages' names. `reporting`: whether any will come, which needs a board."""

    def __init__(self, *, reporting: bool) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray = ray
        self._refs: dict[Any, str] = {}
        self._task = ray.remote(max_retries=0)(run_stage)
        self._next_question = 0.0
        self._asked: Any = None
        # On the driver's node: another one may be taken away, and would not go while it held this.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # Workers that wait for their inputs hold a call each.
        board: Any = ray.remote(num_cpus=0)(Board)
        board = board.options(scheduling_strategy=here, max_concurrency=100_000)
        self._board: Any = board.remote() if reporting else None

    def __len__(self) -> int:
        return len(self._refs)

    @property
    def names(self) -> list[str]:
        """Stages that have a task."""
        return list(self._refs.values())

    def start(self, spec: StageSpec, resources: Resources, *, early: bool) -> None:
        """A stage's task; `early`: its inputs are still being made."""
        task = self._task.options(
            num_cpus=resources.num_cpus,
            num_gpus=resources.num_gpus or None,
            name=spec.name,
            scheduling_strategy="DEFAULT",  # not in the placement group of a sweep's trial
        )
        reporter = Reporter(self._board, spec.name)
        ref = task.remote(spec, reporter, InputResolver(self._board, spec, wait=early))
        self._refs[ref] = spec.name

    def announce_inputs(self, name: str) -> None:
        """To a stage that was started early: they are there."""
        self._board.announce.remote(name)

    def wait(self) -> list[Any]:
        """A moment; the tasks that have ended, for `take`."""
        if not self._refs:
            time.sleep(_POLL_SECONDS)
            return []
        ready, _ = self._ray.wait(list(self._refs), timeout=_POLL_SECONDS)
        return ready

    def take(self, ref: Any) -> tuple[str, Exception | None]:
        """Of a task that has ended: its stage, and Ray's error where it failed."""
        from ray.exceptions import RayError

        name = self._refs.pop(ref)
        try:
            self._ray.get(ref)
        except RayError as error:
            return name, error
        return name, None

    def cancel(self, name: str) -> None:
        """A stage's task, at once."""
        for ref in [r for r, one in self._refs.items() if one == name]:
            self._ray.cancel(ref, force=True)
            del self._refs[ref]

    def cancel_all(self) -> None:
        """Stop every task, and wait a little so that none writes after its lease is given back."""
        if not self._refs:
            return
        for ref in self._refs:
            self._ray.cancel(ref, force=True)
        self._ray.wait(list(self._refs), num_returns=len(self._refs), timeout=_CANCEL_SECONDS)

    def forget(self) -> None:
        """Where nobody is left who could cancel them."""
        self._refs.clear()

    def progress(self, *, now: bool = False) -> Mapping[str, dict[str, Any]]:
        """Stage → what it reported. Asks the board without waiting; its answer comes in a later
        call, or `now`."""
        if self._board is None:
            return {}
        if self._asked is None and (now or time.monotonic() >= self._next_question):
            self._asked = self._board.drain.remote()
            self._next_question = time.monotonic() + _POLL_SECONDS
        if self._asked is None:
            return {}
        answered, _ = self._ray.wait([self._asked], timeout=None if now else 0)
        if not answered:
            return {}
        told: Any = self._ray.get(self._asked)
        self._asked = None
        return told
