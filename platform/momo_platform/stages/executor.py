"""Runs a plan on Ray: every stage a task, independent ones side by side."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from momo_platform.ray_watch import dead_process
from momo_platform.stages.board import MACHINE, Board, InputResolver, Reporter
from momo_platform.stages.errors import StageFailed, UserError
from momo_platform.stages.fingerprint import canonical
from momo_platform.stages.in_use import using
from momo_platform.stages.manifest import git_commit
from momo_platform.stages.plan import NOT_CHOSEN, RERUN, Plan, changed_input
from momo_platform.stages.run_faults import (
    WallClock,
    clock_went_back,
    passing,
    ray_was_lost,
    told,
)
from momo_platform.stages.stage import Artifact
from momo_platform.stages.status import (
    FINISHED,
    StageStatus,
    State,
    check_feasible,
    may_be_joined,
    missing,
)
from momo_platform.stages.storage import Storage
from momo_platform.stages.task import LazyArtifacts, TaskSpec, run_stage

_POLL_SECONDS = 0.2
_NODES_SECONDS = 2.0
_WAIT_SECONDS = 1800.0
_CANCEL_SECONDS = 5.0
_MACHINE_FAULT_RETRIES = 2
_ERROR_LINES = 25
_LEAST_AT_ONCE = 8

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Execution:
    """One run of a plan. `view` is called with all statuses a few times a second."""

    def __init__(
        self,
        plan: Plan,
        storage: Storage,
        view: Callable[[list[StageStatus]], None],
        *,
        fail_fast: bool = False,
        growth: Mapping[str, float] | None = None,
        wait_seconds: float = _WAIT_SECONDS,
    ) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.ray, self.storage, self.view, self.fail_fast = ray, storage, view, fail_fast
        self.failures: list[StageStatus] = []
        there, growth = ray.cluster_resources(), growth or {}
        both = {*there, *growth}
        check_feasible(plan, {n: max(there.get(n, 0.0), growth.get(n, 0.0)) for n in both})
        self.wait_seconds, self.next_look = wait_seconds, 0.0
        self.waiting: dict[str, float] = {}  # stage → since when its nodes are missing
        storage.create()
        self.statuses = {e.name: StageStatus(e) for e in plan.entries}
        for status in self.statuses.values():
            if status.entry.action == "cached":
                # behind an input that is made again: decided when that input is there
                remade = any(s.state == "queued" for s in self._inputs(status))
                remade = remade and status.entry.reason != NOT_CHOSEN
                status.state = "queued" if remade else "cached"
            elif status.entry.action == "skipped":
                status.state = "not run"
        self.dependants: dict[str, list[str]] = {name: [] for name in self.statuses}
        for name, status in self.statuses.items():
            for upstream in status.entry.stage.inputs.values():
                self.dependants[upstream.name].append(name)
        # Stages to look at: all at first, later those whose inputs moved. `later`: those that
        # wait for time, a lease or room, looked at in every round.
        self.candidates = {n: None for n, s in self.statuses.items() if s.state == "queued"}
        self.later: set[str] = set()
        self.open = len(self.candidates)
        self.leases = storage.leases()
        self.refs: dict[Any, str] = {}
        self.task = ray.remote(max_retries=0)(run_stage)
        self.commit = git_commit()
        self.clock = WallClock()
        self.next_view = self.next_question = 0.0
        self.asked: Any = None
        # On the driver's node: another one may be taken away, and would not go while it held this.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        board = ray.remote(num_cpus=0)(Board).options(scheduling_strategy=here)
        self.board = board.remote() if plan.to_run else None
        self._note_cpus(there)

    def run(self) -> Mapping[str, Artifact]:
        """Run to the end; raises StageFailed (or UserError) after independent stages finished."""
        from ray.exceptions import RayError

        try:
            while self.open:
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
            self.view(list(self.statuses.values()))
        except (RayError, ConnectionError) as error:
            self.refs.clear()  # nobody is there who could cancel them
            raise ray_was_lost(str(error) or type(error).__name__) from error
        finally:
            try:
                self._cancel_all()
            finally:
                self.leases.close()
        if self.failures:
            raise StageFailed(self._failure_text())
        keys = {name: (name, s.entry.fingerprint) for name, s in self.statuses.items()}
        made = {n: key for n, key in keys.items() if self.storage.manifest(*key) is not None}
        return LazyArtifacts(made, self.storage)

    def _note_cpus(self, resources: Mapping[str, float]) -> None:
        self.cpus = resources.get("CPU", 0.0)
        # A stage's task may need no CPU: without a bound Ray would start a process for each.
        self.most_at_once = max(_LEAST_AT_ONCE, int(2 * self.cpus))

    def _look_at_nodes(self) -> None:
        """Say which stages wait for nodes that are not there (yet, or any more), and end those that
        have waited too long."""
        if time.monotonic() < self.next_look:
            return
        self.next_look = time.monotonic() + _NODES_SECONDS
        there = self.ray.cluster_resources()
        self._note_cpus(there)
        for status in [s for s in self._active() if s.state == "running"]:
            name, asked = status.entry.name, status.entry.stage.resources.least
            lacking = missing(asked, there)
            if not lacking:
                if self.waiting.pop(name, None):
                    status.detail = ""
                continue
            since = self.waiting.setdefault(name, time.monotonic())
            needs = " and ".join(
                f"{asked[r]:g} {r} (the cluster has {there.get(r, 0.0):g})" for r in lacking
            )
            status.detail = f"waits for nodes with {needs}"
            if time.monotonic() - since > self.wait_seconds:
                self._cancel(status)
                self._fail(
                    status,
                    UserError(
                        f"no nodes with {needs} came within {self.wait_seconds:g} s: see `ray "
                        "status` for the autoscaler's reason, or wait longer (--run.wait-minutes)"
                    ),
                )

    def _look_below(self) -> None:
        """End where Ray died, or would keep training workers waiting until the wall clock has
        caught up."""
        if name := dead_process():
            self.refs.clear()
            raise ray_was_lost(f"its {name} died")
        behind = self.clock.back()
        if behind and self.clock.workers_wait(self.ray):
            raise clock_went_back(behind)

    def _look_at_leases(self) -> None:
        """A driver that was stopped for long, or cut off from its storage, may have lost a stage to
        another one: wait for that one's artifact."""
        for status in self._active():
            entry = status.entry
            if self.leases.is_lost(self.storage.folder(entry.name, entry.fingerprint)):
                self._wait_for_new_holder(status)

    def _wait_for_new_holder(self, status: StageStatus) -> None:
        self._cancel(status)
        self._set(status, "leased")
        status.detail = "its lease went to another driver"
        status.progress.clear()
        self.later.add(status.entry.name)

    def _show(self) -> None:
        """Call the view; one that takes long is called less often, for a twentieth of the time."""
        started = time.perf_counter()
        if started >= self.next_view:
            self.view(list(self.statuses.values()))
            self.next_view = time.perf_counter() + 20 * (time.perf_counter() - started)

    def _set(self, status: StageStatus, state: State) -> None:
        """Every change of state; wakes what depends on the stage."""
        if state in FINISHED and status.state not in FINISHED:
            self.open -= 1
        status.state = state
        self.candidates.update(dict.fromkeys(self.dependants[status.entry.name]))

    def _active(self) -> list[StageStatus]:
        return [self.statuses[name] for name in self.refs.values()]

    def _failure_text(self) -> str:
        first = self.failures[0]
        lines = [f"stage {first.entry.name} failed: {first.error}"]
        lines += [f"stage {s.entry.name} failed too" for s in self.failures[1:]]
        left = [n for n, s in self.statuses.items() if s.state == "not run"]
        if left:
            lines.append(f"not run: {', '.join(left)}")
        return "\n".join(lines)

    def _give_up(self) -> None:
        for status in self.statuses.values():
            if status.state not in FINISHED:
                self._cancel(status)
                self._set(status, "not run")

    def _inputs(self, status: StageStatus) -> list[StageStatus]:
        return [self.statuses[s.name] for s in status.entry.stage.inputs.values()]

    def _start_what_can(self) -> None:
        self.candidates.update(dict.fromkeys(self.later))
        self.later.clear()
        while self.candidates and len(self.refs) < self.most_at_once:
            name = next(iter(self.candidates))
            del self.candidates[name]
            self._look_at(self.statuses[name])
        # An early starter holds a task already: its inputs' ends must not wait for room.
        for status in self._active():
            if status.state == "starting":
                self._look_at(status)

    def _look_at(self, status: StageStatus) -> None:
        inputs = self._inputs(status)
        complete = all(s.state in ("done", "cached") for s in inputs)
        lost = any(s.state in ("failed", "not run") for s in inputs)
        if status.state == "starting":
            if complete:
                self._set(status, "running")
                status.started = time.monotonic()
                self._announce_inputs(status)
            elif lost:
                self._cancel(status)
                self._set(status, "not run")
            elif not may_be_joined(inputs):
                # Its waiting workers may hold what the input needs to start again.
                self._cancel(status)
                self._set(status, "queued")
                status.progress.clear()
                self.later.add(status.entry.name)
        elif status.state in ("queued", "leased"):
            if lost:
                self._set(status, "not run")
            elif not self._is_due(status, inputs):
                return
            elif complete:
                self._submit(status, early=False)
            elif status.entry.stage.resources.early_start:
                if self._may_start_early(status, inputs):
                    self._submit(status, early=True)
                else:
                    self.later.add(status.entry.name)

    def _may_start_early(self, status: StageStatus, inputs: list[StageStatus]) -> bool:
        """All missing inputs are being made, and the cluster has room for this stage too."""
        resources = status.entry.stage.resources
        if not resources.early_start or not may_be_joined(inputs):
            return False
        busy = sum(
            s.entry.stage.resources.total.get("CPU", 0.0) + s.entry.stage.resources.data_cpus
            for s in self._active()
        )
        if resources.total.get("GPU"):
            return False
        return busy + resources.total.get("CPU", 0.0) <= self.cpus

    def _is_due(self, status: StageStatus, inputs: list[StageStatus]) -> bool:
        """False while a retry backs off, and for a cached stage until its inputs came out new."""
        if time.monotonic() < status.not_before:
            self.later.add(status.entry.name)
            return False
        if status.entry.action != "cached" or status.state == "leased":
            return True
        if any(s.state not in ("done", "cached") for s in inputs):
            return False
        entry = status.entry
        manifest = self.storage.manifest(entry.name, entry.fingerprint)
        changed = manifest and changed_input(entry.stage, manifest, self.storage)
        if manifest and not changed:
            self._set(status, "cached")
            return False
        status.detail = f"input {changed} came out different"
        return True

    def _submit(self, status: StageStatus, *, early: bool) -> None:
        entry = status.entry
        folder = self.storage.folder(entry.name, entry.fingerprint)
        if other := self.leases.acquire(folder):
            self._set(status, "leased")
            status.detail = f"waits for {other}"
            status.not_before = time.monotonic() + self.leases.poll_seconds
            self.later.add(entry.name)
            return
        # Another driver may have made it after the plan, and given the lease back before we asked.
        manifest = self.storage.manifest(entry.name, entry.fingerprint)
        if (
            manifest
            and manifest.attempt != entry.attempt
            and self.storage.problem(manifest) is None
            and changed_input(entry.stage, manifest, self.storage) is None
        ):
            self.leases.release(folder)
            self._set(status, "cached")
            status.detail = "made by another driver"
            return
        stage = entry.stage
        anew = entry.action == "run" and entry.reason.startswith(RERUN)
        if anew and not status.retries:
            self.storage.drop_checkpoints(entry.name, entry.fingerprint)
        self.storage.clear_failure(entry.name, entry.fingerprint)
        spec = TaskSpec(
            stage.name,
            entry.fingerprint,
            stage.version,
            stage.run,
            stage.config,
            canonical(stage.config),
            {
                role: (s.name, self.statuses[s.name].entry.fingerprint)
                for role, s in stage.inputs.items()
            },
            stage.sources,
            self.storage.uri,
            stage.resources.total,
            self.commit,
            self.leases.own_token,
        )
        if status.state == "leased":
            status.detail = ""
        status.started = time.monotonic()
        status.progress.pop("first_step_at", None)  # of a try before; its reports have come by now
        self._set(status, "starting" if early else "running")
        own = stage.resources
        task = self.task.options(
            num_cpus=own.num_cpus,
            num_gpus=own.num_gpus or None,
            name=stage.name,
            scheduling_strategy="DEFAULT",  # not in the placement group of a sweep's trial
        )
        reporter = Reporter(self.board, stage.name)
        ref = task.remote(spec, reporter, InputResolver(self.board, spec, wait=early))
        self.refs[ref] = stage.name

    def _announce_inputs(self, status: StageStatus) -> None:
        assert self.board is not None
        self.board.announce.remote(status.entry.name)

    def _cancel(self, status: StageStatus) -> None:
        for ref in [r for r, name in self.refs.items() if name == status.entry.name]:
            self.ray.cancel(ref, force=True)
            del self.refs[ref]
        self.leases.release(self.storage.folder(status.entry.name, status.entry.fingerprint))

    def _cancel_all(self) -> None:
        """Stop every task, and wait a little so that none writes after its lease is given back."""
        if not self.refs:
            return
        for ref in self.refs:
            self.ray.cancel(ref, force=True)
        self.ray.wait(list(self.refs), num_returns=len(self.refs), timeout=_CANCEL_SECONDS)

    def _collect(self) -> None:
        if self.refs:
            ready, _ = self.ray.wait(list(self.refs), timeout=_POLL_SECONDS)
        else:
            time.sleep(_POLL_SECONDS)
            ready = []
        self._take_progress()
        now = time.monotonic()
        for status in self._active():
            if status.state == "running":
                status.seconds = now - status.started
        for ref in ready:
            status = self.statuses[self.refs.pop(ref)]
            self._finish(status, ref)
            if status.state in FINISHED:
                entry = status.entry
                self.leases.release(self.storage.folder(entry.name, entry.fingerprint))

    def _take_progress(self, *, now: bool = False) -> None:
        """Ask the board without waiting; its answer is taken in a later round, or `now`."""
        if self.board is None:
            return
        if self.asked is None and (now or time.monotonic() >= self.next_question):
            self.asked = self.board.drain.remote()
            self.next_question = time.monotonic() + _POLL_SECONDS
        if self.asked is None:
            return
        answered, _ = self.ray.wait([self.asked], timeout=None if now else 0)
        if answered:
            for name, values in self.ray.get(self.asked).items():
                status = self.statuses[name]
                status.machine = values.pop(MACHINE, status.machine)
                status.progress.update(values)
            self.asked = None

    def _finish(self, status: StageStatus, ref: Any) -> None:
        from ray.exceptions import (
            NodeDiedError,
            OutOfMemoryError,
            RayActorError,
            RayError,
            WorkerCrashedError,
        )

        # Of its own process, or of one that it started: a training's controller, Ray Data's.
        lost = (WorkerCrashedError, OutOfMemoryError, NodeDiedError, RayActorError)
        try:
            self.ray.get(ref)
            self._set(status, "done")
        except RayError as error:
            entry = status.entry
            if not self.leases.holds(self.storage.folder(entry.name, entry.fingerprint)):
                self._wait_for_new_holder(status)
            elif isinstance(error, lost) or isinstance(
                cause := getattr(error, "cause", error), lost
            ):
                self._try_again(status, error, "worker lost")
            elif why := passing(cause):
                self._try_again(status, error, why)
            else:
                self._fail(status, error)

    def _try_again(self, status: StageStatus, error: Exception, why: str) -> None:
        """After a fault of the machine, a few times."""
        status.retries += 1
        if status.retries > _MACHINE_FAULT_RETRIES:
            self._fail(status, error)
            return
        # the lease is kept; inputs announced before hold for the next try too
        self._set(status, "queued")
        self.later.add(status.entry.name)
        status.detail = f"{why}, retry {status.retries}"
        status.not_before = time.monotonic() + 2**status.retries

    def _fail(self, status: StageStatus, error: Exception) -> None:
        """Keep the end of the error for people and the whole of it beside the artifact."""
        cause = getattr(error, "cause", error)
        self._set(status, "failed")
        status.detail = ""
        self.failures.append(status)
        if isinstance(cause, UserError):
            status.error = str(cause)
            return
        text = _ANSI.sub("", str(error)).strip()
        lines = text.splitlines()
        below = told(cause)
        status.error = below or "\n".join(lines[-_ERROR_LINES:])
        if below or len(lines) > _ERROR_LINES:
            entry = status.entry
            place = self.storage.write_failure(entry.name, entry.fingerprint, text + "\n")
            if place:
                status.error += f"\n(the whole traceback is in {place})"


def execute(
    plan: Plan,
    storage: Storage,
    view: Callable[[list[StageStatus]], None] = lambda _: None,
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
            plan, storage, view, fail_fast=fail_fast, growth=growth, wait_seconds=wait_seconds
        ).run()
