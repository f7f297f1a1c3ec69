"""Runs a plan on Ray: every stage a task, independent ones side by side."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from momo_platform.stages.board import Board, InputResolver, Reporter
from momo_platform.stages.errors import StageFailed, UserError
from momo_platform.stages.fingerprint import canonical
from momo_platform.stages.lease import Leases
from momo_platform.stages.plan import NOT_CHOSEN, Plan, PlanEntry, changed_input
from momo_platform.stages.stage import Artifact
from momo_platform.stages.storage import Storage
from momo_platform.stages.task import TaskSpec, run_stage

State = Literal["queued", "leased", "starting", "running", "done", "cached", "failed", "not run"]
FINISHED: frozenset[State] = frozenset({"done", "cached", "failed", "not run"})
_POLL_SECONDS = 0.2
_CANCEL_SECONDS = 5.0
_MACHINE_FAULT_RETRIES = 2
_ERROR_LINES = 25
FAILURE_FILE = "failure.txt"


_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class StageStatus:
    """What a view shows of one stage. `starting`: its processes are up, its inputs are not."""

    entry: PlanEntry
    state: State = "queued"
    detail: str = ""
    started: float = 0.0
    seconds: float = 0.0
    retries: int = 0
    not_before: float = 0.0
    error: str = ""
    progress: dict[str, Any] = field(default_factory=dict)


def check_feasible(plan: Plan, resources: Mapping[str, float]) -> None:
    """Raise UserError for a stage that asks for more than the cluster has in all."""
    for entry in plan.to_run:
        for name, amount in entry.stage.resources.total.items():
            if amount > resources.get(name, 0.0) + 1e-9:
                raise UserError(
                    f"stage {entry.name} needs {amount:g} {name} at once, the cluster has "
                    f"{resources.get(name, 0.0):g}: lower its workers or add machines"
                )


class Execution:
    """One run of a plan. `view` is called with all statuses a few times a second."""

    def __init__(
        self,
        plan: Plan,
        storage: Storage,
        view: Callable[[list[StageStatus]], None],
        *,
        fail_fast: bool = False,
    ) -> None:
        import ray

        self.ray, self.storage, self.view, self.fail_fast = ray, storage, view, fail_fast
        self.failures: list[StageStatus] = []
        check_feasible(plan, ray.cluster_resources())
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
        self.leases = Leases()
        self.refs: dict[Any, str] = {}
        self.board = ray.remote(num_cpus=0)(Board).remote() if plan.to_run else None
        self.cpus = ray.cluster_resources().get("CPU", 0.0)

    def run(self) -> dict[str, Artifact]:
        """Run to the end; raises StageFailed (or UserError) after independent stages finished."""
        try:
            while any(s.state not in FINISHED for s in self.statuses.values()):
                self._start_what_can()
                self.view(list(self.statuses.values()))
                self._collect()
                if self.fail_fast and self.failures:
                    self._give_up()
                self.view(list(self.statuses.values()))
        finally:
            self._cancel_all()
            self.leases.close()
        if self.failures:
            raise StageFailed(self._failure_text())
        artifacts = {}
        for name, status in self.statuses.items():
            artifact = self.storage.artifact(name, status.entry.fingerprint)
            if artifact is not None:
                artifacts[name] = artifact
        return artifacts

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
                status.state = "not run"

    def _inputs(self, status: StageStatus) -> list[StageStatus]:
        return [self.statuses[s.name] for s in status.entry.stage.inputs.values()]

    def _start_what_can(self) -> None:
        for status in self.statuses.values():
            inputs = self._inputs(status)
            if status.state == "starting":
                if all(s.state in ("done", "cached") for s in inputs):
                    status.state, status.started = "running", time.time()
                    self._announce_inputs(status)
                elif any(s.state in ("failed", "not run") for s in inputs):
                    self._cancel(status)
                    status.state = "not run"
            elif status.state in ("queued", "leased"):
                if any(s.state in ("failed", "not run") for s in inputs):
                    status.state = "not run"
                elif not self._is_due(status, inputs):
                    continue
                elif all(s.state in ("done", "cached") for s in inputs):
                    self._submit(status, early=False)
                elif self._may_start_early(status, inputs):
                    self._submit(status, early=True)

    def _may_start_early(self, status: StageStatus, inputs: list[StageStatus]) -> bool:
        """All missing inputs are being made, and the cluster has room for this stage too."""
        resources = status.entry.stage.resources
        if not resources.early_start:
            return False
        if any(s.state not in ("done", "cached", "running") for s in inputs):
            return False
        # A trainer that is still starting needs the processors itself.
        trainers = [s for s in inputs if s.state == "running" and s.entry.stage.resources.workers]
        if any("first_step_at" not in s.progress for s in trainers):
            return False
        busy = sum(
            s.entry.stage.resources.total.get("CPU", 0.0) + s.entry.stage.resources.data_cpus
            for s in self.statuses.values()
            if s.state in ("running", "starting")
        )
        if resources.total.get("GPU"):
            return False
        return busy + resources.total.get("CPU", 0.0) <= self.cpus

    def _is_due(self, status: StageStatus, inputs: list[StageStatus]) -> bool:
        """False while a retry backs off, and for a cached stage until its inputs came out new."""
        if time.time() < status.not_before:
            return False
        if status.entry.action != "cached" or status.state == "leased":
            return True
        if any(s.state not in ("done", "cached") for s in inputs):
            return False
        entry = status.entry
        manifest = self.storage.manifest(entry.name, entry.fingerprint)
        changed = manifest and changed_input(entry.stage, manifest, self.storage)
        if manifest and not changed:
            status.state = "cached"
            return False
        status.detail = f"input {changed} came out different"
        return True

    def _submit(self, status: StageStatus, *, early: bool) -> None:
        entry = status.entry
        folder = self.storage.folder(entry.name, entry.fingerprint)
        if other := self.leases.acquire(folder):
            status.state, status.detail = "leased", f"waits for {other}"
            return
        if status.state == "leased":
            manifest = self.storage.manifest(entry.name, entry.fingerprint)
            if (
                manifest
                and manifest.problem(folder / manifest.attempt) is None
                and changed_input(entry.stage, manifest, self.storage) is None
            ):
                self.leases.release(folder)
                status.state, status.detail = "cached", "made by another driver"
                return
        stage = entry.stage
        if entry.reason == "--rerun" and not status.retries:
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        (folder / FAILURE_FILE).unlink(missing_ok=True)
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
            stage.code,
            str(self.storage.root),
            stage.resources.total,
        )
        if status.state == "leased":
            status.detail = ""
        status.started = time.time()
        status.state = "starting" if early else "running"
        if not early:
            self._announce_inputs(status)
        task = self.ray.remote(num_cpus=stage.resources.num_cpus, max_retries=0)(run_stage)
        reporter = Reporter(self.board, stage.name)
        ref = task.options(name=stage.name).remote(
            spec, reporter, InputResolver(self.board, stage.name)
        )
        self.refs[ref] = stage.name

    def _announce_inputs(self, status: StageStatus) -> None:
        paths = {}
        for role, stage in status.entry.stage.inputs.items():
            digest = self.statuses[stage.name].entry.fingerprint
            artifact = self.storage.artifact(stage.name, digest)
            assert artifact is not None, f"{stage.name} is done but has no manifest"
            paths[role] = str(artifact.path)
        assert self.board is not None
        self.board.set_inputs.remote(status.entry.name, paths)

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
        if self.board is not None:
            for name, values in self.ray.get(self.board.snapshot.remote()).items():
                self.statuses[name].progress = values
        now = time.time()
        for status in self.statuses.values():
            if status.state == "running":
                status.seconds = now - status.started
        for ref in ready:
            status = self.statuses[self.refs.pop(ref)]
            self._finish(status, ref)
            if status.state in FINISHED:
                entry = status.entry
                self.leases.release(self.storage.folder(entry.name, entry.fingerprint))

    def _finish(self, status: StageStatus, ref: Any) -> None:
        from ray.exceptions import (
            NodeDiedError,
            OutOfMemoryError,
            RayError,
            WorkerCrashedError,
        )

        try:
            self.ray.get(ref)
            status.state = "done"
        except (WorkerCrashedError, OutOfMemoryError, NodeDiedError) as error:
            status.retries += 1
            if status.retries > _MACHINE_FAULT_RETRIES:
                self._fail(status, error)
                return
            # the lease is kept; inputs announced before hold for the next try too
            status.state = "queued"
            status.detail = f"worker lost, retry {status.retries}"
            status.not_before = time.time() + 2**status.retries
        except RayError as error:
            self._fail(status, error)

    def _fail(self, status: StageStatus, error: Exception) -> None:
        """Keep the end of the error for people and the whole of it beside the artifact."""
        cause = getattr(error, "cause", error)
        status.state, status.detail = "failed", ""
        self.failures.append(status)
        if isinstance(cause, UserError):
            status.error = str(cause)
            return
        text = _ANSI.sub("", str(error)).strip()
        lines = text.splitlines()
        status.error = "\n".join(lines[-_ERROR_LINES:])
        folder = self.storage.folder(status.entry.name, status.entry.fingerprint)
        if len(lines) > _ERROR_LINES:
            with contextlib.suppress(OSError):  # the disk may be what failed
                (folder / FAILURE_FILE).write_text(text + "\n")
                status.error += f"\n(the whole traceback is in {folder / FAILURE_FILE})"


def execute(
    plan: Plan,
    storage: Storage,
    view: Callable[[list[StageStatus]], None] = lambda _: None,
    *,
    fail_fast: bool = False,
) -> dict[str, Artifact]:
    """Run `plan` on the connected Ray cluster and return all artifacts by stage name.

    A failed stage leaves its siblings running; what depends on it is not run; at the end
    StageFailed carries the first failure (`fail_fast`: at once, the others cancelled). Faults of
    the machine are retried, of the code not. Raises UserError, before anything starts, for a stage
    that asks for more than the cluster has. On KeyboardInterrupt tasks are cancelled and leases
    given back.
    """
    return Execution(plan, storage, view, fail_fast=fail_fast).run()
