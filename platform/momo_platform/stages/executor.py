"""Runs a plan on Ray: every stage a task, independent ones side by side.

What may start is decided in `schedule.py`; tasks and their reports are in `ray_tasks.py`, missing
nodes in `nodes.py`, errors in `task_errors.py` and `run_faults.py`. Here all that meets the leases.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from momo_platform.ray_watch import dead_process
from momo_platform.stages.board import MACHINE
from momo_platform.stages.errors import StageFailed
from momo_platform.stages.fingerprint import canonical
from momo_platform.stages.in_use import using
from momo_platform.stages.manifest import git_commit
from momo_platform.stages.nodes import Nodes
from momo_platform.stages.plan import RERUN, Plan, changed_input
from momo_platform.stages.ray_tasks import RayTasks
from momo_platform.stages.run_faults import (
    WallClock,
    clock_went_back,
    ray_was_lost,
)
from momo_platform.stages.schedule import Schedule
from momo_platform.stages.stage import Artifact
from momo_platform.stages.status import FINISHED, StageStatus, check_feasible
from momo_platform.stages.storage.artifacts import Storage
from momo_platform.stages.storage.leases import Leases
from momo_platform.stages.task import LazyArtifacts, StageSpec
from momo_platform.stages.task_errors import failure_text, told_error, why_again

_WAIT_SECONDS = 1800.0
_MACHINE_FAULT_RETRIES = 2


class Execution:
    """One run of a plan. `display` is called with all statuses a few times a second."""

    def __init__(
        self,
        plan: Plan,
        storage: Storage,
        display: Callable[[list[StageStatus]], None],
        *,
        fail_fast: bool = False,
        growth: Mapping[str, float] | None = None,
        wait_seconds: float = _WAIT_SECONDS,
    ) -> None:
        import ray

        self.ray, self.storage, self.display, self.fail_fast = ray, storage, display, fail_fast
        self.failures: list[StageStatus] = []
        there, growth = ray.cluster_resources(), growth or {}
        both = {*there, *growth}
        check_feasible(plan, {n: max(there.get(n, 0.0), growth.get(n, 0.0)) for n in both})
        storage.create()
        self.schedule = Schedule(plan, storage)
        self.tasks = RayTasks(reporting=bool(plan.to_run))
        self.nodes = Nodes(there, wait_seconds, growth)
        self.commit = git_commit()
        self.clock = WallClock()
        self.next_display = 0.0

    @cached_property
    def leases(self) -> Leases:
        """Of this driver, from the first that it needs: an object store is tried for their kind."""
        return self.storage.leases()

    def run(self) -> Mapping[str, Artifact]:
        """Run to the end; raises StageFailed (or UserError) after independent stages finished."""
        from ray.exceptions import RayError

        try:
            while self.schedule.open:
                self._look_below()
                self._start_what_can()
                self._look_at_leases()
                self._look_at_nodes()
                self._show()
                self._collect()
                if self.fail_fast and self.failures:
                    self._give_up()
                self._show()
            self._take_progress(now=True)  # an answer on its way, then what came after it
            self._take_progress(now=True)
            self.display(list(self.schedule))
        except (RayError, ConnectionError) as error:
            self.tasks.forget()
            raise ray_was_lost(str(error) or type(error).__name__) from error
        finally:
            try:
                self.tasks.cancel_all()
            finally:
                if "leases" in vars(self):
                    self.leases.close()
        if self.failures:
            raise StageFailed(failure_text(self.failures, self.schedule))
        keys = {s.entry.name: (s.entry.name, s.entry.fingerprint) for s in self.schedule}
        made = {n: key for n, key in keys.items() if self.storage.manifest(*key) is not None}
        return LazyArtifacts(made, self.storage)

    # -- a round -------------------------------------------------------------------------------

    def _look_below(self) -> None:
        """End where Ray died, or would keep training workers waiting until the wall clock has
        caught up."""
        if name := dead_process():
            self.tasks.forget()
            raise ray_was_lost(f"its {name} died")
        behind = self.clock.back()
        if behind and self.clock.workers_wait(self.ray):
            raise clock_went_back(behind)

    def _start_what_can(self) -> None:
        self.schedule.begin_round()
        while len(self.tasks) < self.nodes.most_at_once:
            if (status := self.schedule.next_candidate()) is None:
                break
            self._look_at(status)
        # An early starter holds a task already: its inputs' ends must not wait for room.
        for status in self._active():
            if status.state == "starting":
                self._look_at(status)

    def _look_at(self, status: StageStatus) -> None:
        asked = (s.entry.stage.resources for s in self._active())
        busy = sum(r.total.get("CPU", 0.0) + r.data_cpus for r in asked)
        move = self.schedule.move(status, busy, self.nodes.cpus, self.nodes.most_cpus)
        if move == "join":
            self.schedule.set(status, "running")
            status.started = time.monotonic()
            self.tasks.announce_inputs(status.entry.name)
        elif move == "drop":
            if status.state == "starting":
                self._cancel(status)
            self.schedule.set(status, "not run")
        elif move == "take back":
            self._cancel(status)
            self.schedule.set(status, "queued")
            status.progress.clear()
            self.schedule.look_again(status)
        elif move is not None and self._take_lease(status):
            self._submit(status, early=move == "start early")

    def _look_at_leases(self) -> None:
        """A driver that was stopped for long, or cut off from its storage, may have lost a stage to
        another one: wait for that one's artifact."""
        for status in self._active():
            if self.leases.is_lost(self._folder(status)):
                self._wait_for_new_holder(status)

    def _look_at_nodes(self) -> None:
        for status, error in self.nodes.look(self.ray, self._active()):
            self._cancel(status)
            self._fail(status, error)

    def _show(self) -> None:
        """Call the display, one that takes long less often: for a twentieth of the time."""
        started = time.perf_counter()
        if started >= self.next_display:
            self.display(list(self.schedule))
            self.next_display = time.perf_counter() + 20 * (time.perf_counter() - started)

    def _collect(self) -> None:
        ready = self.tasks.wait()
        self._take_progress()
        now = time.monotonic()
        for status in self._active():
            if status.state == "running":
                status.seconds = now - status.started
        for ref in ready:
            name, error = self.tasks.take(ref)
            status = self.schedule.statuses[name]
            if error is None:
                self.schedule.set(status, "done")
            elif not self.leases.holds(self._folder(status)):
                self._wait_for_new_holder(status)
            elif why := why_again(error):
                self._try_again(status, error, why)
            else:
                self._fail(status, error)
            if status.state in FINISHED:
                self.leases.release(self._folder(status))

    def _take_progress(self, *, now: bool = False) -> None:
        for name, values in self.tasks.progress(now=now).items():
            status = self.schedule.statuses[name]
            status.machine = values.pop(MACHINE, status.machine)
            status.progress.update(values)

    def _give_up(self) -> None:
        for status in self.schedule:
            if status.state not in FINISHED:
                self._cancel(status)
                self.schedule.set(status, "not run")

    # -- one stage -----------------------------------------------------------------------------

    def _active(self) -> list[StageStatus]:
        return [self.schedule.statuses[name] for name in self.tasks.names]

    def _folder(self, status: StageStatus) -> Any:
        return self.storage.folder(status.entry.name, status.entry.fingerprint)

    def _take_lease(self, status: StageStatus) -> bool:
        """Whether the stage is now ours to make: False where another driver makes it, or has."""
        entry = status.entry
        if other := self.leases.acquire(self._folder(status)):
            self.schedule.set(status, "leased")
            status.detail = f"waits for {other}"
            status.not_before = time.monotonic() + self.leases.poll_seconds
            self.schedule.look_again(status)
            return False
        # Another driver may have made it after the plan, and given the lease back before we asked.
        manifest = self.storage.manifest(entry.name, entry.fingerprint)
        if (
            manifest
            and manifest.attempt != entry.attempt
            and self.storage.problem(manifest) is None
            and changed_input(entry.stage, manifest, self.storage) is None
        ):
            self.leases.release(self._folder(status))
            self.schedule.set(status, "cached")
            status.detail = "made by another driver"
            return False
        return True

    def _submit(self, status: StageStatus, *, early: bool) -> None:
        entry, stage = status.entry, status.entry.stage
        anew = entry.action == "run" and entry.reason.startswith(RERUN)
        if anew and not status.retries:
            self.storage.drop_checkpoints(entry.name, entry.fingerprint)
        self.storage.clear_failure(entry.name, entry.fingerprint)
        spec = StageSpec(
            stage.name,
            entry.fingerprint,
            stage.version,
            stage.run,
            stage.config,
            canonical(stage.config),
            self.schedule.fingerprints(status),
            stage.sources,
            self.storage.uri,
            stage.resources.total,
            self.commit,
            self.leases.own_token,
            stage.continues,
        )
        if status.state == "leased":
            status.detail = ""
        status.started = time.monotonic()
        status.progress.pop("first_step_at", None)  # of a try before; its reports have come by now
        self.schedule.set(status, "starting" if early else "running")
        self.tasks.start(spec, stage.resources, early=early)

    def _cancel(self, status: StageStatus) -> None:
        self.tasks.cancel(status.entry.name)
        self.leases.release(self._folder(status))

    def _wait_for_new_holder(self, status: StageStatus) -> None:
        self._cancel(status)
        self.schedule.set(status, "leased")
        status.detail = "its lease went to another driver"
        status.progress.clear()
        self.schedule.look_again(status)

    def _try_again(self, status: StageStatus, error: Exception, why: str) -> None:
        """After a fault of the machine, a few times."""
        status.retries += 1
        if status.retries > _MACHINE_FAULT_RETRIES:
            self._fail(status, error)
            return
        # the lease is kept; inputs announced before hold for the next try too
        self.schedule.set(status, "queued")
        self.schedule.look_again(status)
        status.detail = f"{why}, retry {status.retries}"
        status.not_before = time.monotonic() + 2**status.retries

    def _fail(self, status: StageStatus, error: Exception) -> None:
        """Keep the end of the error for people and the whole of it beside the artifact."""
        self.schedule.set(status, "failed")
        status.detail = ""
        self.failures.append(status)
        status.error, whole = told_error(error)
        if whole:
            entry = status.entry
            place = self.storage.write_failure(entry.name, entry.fingerprint, whole + "\n")
            if place:
                status.error += f"\n(the whole traceback is in {place})"


def execute(
    plan: Plan,
    storage: Storage,
    display: Callable[[list[StageStatus]], None] = lambda _: None,
    *,
    fail_fast: bool = False,
    growth: Mapping[str, float] | None = None,
    wait_seconds: float = _WAIT_SECONDS,
) -> Mapping[str, Artifact]:
    """Run `plan` on the connected Ray cluster and return all artifacts by stage name.

    A failed stage leaves its siblings running; what depends on it is not run; at the end
    StageFailed carries the first failure (`fail_fast`: at once, the others cancelled). Faults of
    the machine are retried, of the code not. Raises UserError, before anything starts, for a stage
    that asks for more than the cluster has or, where it grows with the work, can have (`growth`,
    Ray resource → most). A stage whose nodes are not there `wait_seconds` after it could start
    fails and says what it waited for. On KeyboardInterrupt tasks are cancelled and leases
    given back.
    """
    with using(plan, storage):
        return Execution(
            plan, storage, display, fail_fast=fail_fast, growth=growth, wait_seconds=wait_seconds
        ).run()
