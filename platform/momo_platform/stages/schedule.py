"""Which stages of a plan may start, and which may not any more. Knows nothing of Ray."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Literal

from momo_platform.stages.plan import NOT_CHOSEN, Plan, changed_input
from momo_platform.stages.status import ACTIVE, FINISHED, StageStatus, State, may_be_joined
from momo_platform.stages.storage.artifacts import Storage

Move = Literal["start", "start early", "join", "take back", "drop"]
"""What is to be done with a stage: `join` tells one that was started early that its inputs are
there, `take back` ends it for now, `drop` for good."""


class Schedule:
    """Statuses of all stages, and those of them that are worth a look.

    Looked at are all at first, later those whose inputs moved, and in every round those that wait
    for time, a lease or room. `open` counts what is not finished.
    """

    def __init__(self, plan: Plan, storage: Storage) -> None:
        self._storage = storage
        self.statuses = {e.name: StageStatus(e) for e in plan.entries}
        for status in self.statuses.values():
            if status.entry.action == "cached":
                # behind an input that is made again: decided when that input is there
                remade = any(s.state == "queued" for s in self._inputs(status))
                remade = remade and status.entry.reason != NOT_CHOSEN
                status.state = "queued" if remade else "cached"
            elif status.entry.action == "skipped":
                status.state = "not run"
        self._dependants: dict[str, list[str]] = {name: [] for name in self.statuses}
        for name, status in self.statuses.items():
            for upstream in status.entry.stage.inputs.values():
                self._dependants[upstream.name].append(name)
        self._candidates = {n: None for n, s in self.statuses.items() if s.state == "queued"}
        self._later: dict[str, None] = {}  # in the order in which they came
        self._needs: dict[str, frozenset[str]] = {}  # all, known from the first look on
        self._details: dict[str, str] = {}  # of those that give way: what was told before
        self.open = len(self._candidates)

    def __iter__(self) -> Iterator[StageStatus]:
        return iter(self.statuses.values())

    def set(self, status: StageStatus, state: State) -> None:
        """Every change of state; wakes what depends on the stage."""
        if state in FINISHED and status.state not in FINISHED:
            self.open -= 1
        status.state = state
        status.detail = self._details.pop(status.entry.name, status.detail)
        self._candidates.update(dict.fromkeys(self._dependants[status.entry.name]))

    def look_again(self, status: StageStatus) -> None:
        """In the next round, whatever its inputs do."""
        self._later[status.entry.name] = None

    def begin_round(self) -> None:
        """What waited until now is worth a look again."""
        self._candidates.update(self._later)
        self._later.clear()

    def next_candidate(self) -> StageStatus | None:
        """One that is worth a look in this round, and then no more."""
        name = next(iter(self._candidates), None)
        if name is None:
            return None
        del self._candidates[name]
        return self.statuses[name]

    def fingerprints(self, status: StageStatus) -> dict[str, tuple[str, str]]:
        """Role → (name, fingerprint) of the stage's inputs."""
        inputs = status.entry.stage.inputs.items()
        return {role: (s.name, self.statuses[s.name].entry.fingerprint) for role, s in inputs}

    def move(
        self, status: StageStatus, busy_cpus: float, cpus: float, most_cpus: float = 0.0
    ) -> Move | None:
        """What is to be done with a stage now; `busy_cpus` of the cluster's `cpus` are taken, and
        it can grow to `most_cpus`."""
        inputs = self._inputs(status)
        complete = all(s.state in ("done", "cached") for s in inputs)
        lost = any(s.state in ("failed", "not run") for s in inputs)
        if status.state == "starting":
            if complete:
                return "join"
            if lost:
                return "drop"
            # Its waiting workers may hold what the input needs to start again.
            return None if may_be_joined(inputs) else "take back"
        if status.state not in ("queued", "leased"):
            return None
        if lost:
            return "drop"
        if not self._is_due(status, inputs):
            return None
        resources = status.entry.stage.resources
        if complete:
            return None if self._gives_way(status, max(cpus, most_cpus)) else "start"
        if not resources.early_start:
            return None
        # All missing inputs are being made, and the cluster has room for this stage too.
        room = busy_cpus + resources.total.get("CPU", 0.0) <= cpus
        if may_be_joined(inputs) and not resources.total.get("GPU") and room:
            return "start early"
        self.look_again(status)
        return None

    def _gives_way(self, status: StageStatus, cpus: float) -> bool:
        """Whether a stage waits for trainings now; says in its `detail` for which. One that another
        driver had is asked for in any case: that one may have made it."""
        if not status.entry.stage.resources.gives_way or status.state == "leased":
            return False
        trainings = self._trainings_to_mind()
        if not trainings or self._busy_beside(status, trainings) <= cpus:
            return False
        first = next((s for s in trainings if s.state in ACTIVE), trainings[0])
        self._details.setdefault(status.entry.name, status.detail)
        status.detail = f"gives way to {first.entry.name}"
        self.look_again(status)
        return True

    def _trainings_to_mind(self) -> list[StageStatus]:
        """The trainings on processors that run, or are still to come without a stage before them
        that waits and gives way itself: two such, each for the training behind
        the other, would wait for ever."""
        found: list[StageStatus] = []
        for one in self:
            counts = one.state in ACTIVE or one.state == "queued"
            if counts and one.entry.stage.resources.training_cpus:
                before = (self.statuses[n] for n in (one.entry.name, *self._before(one)))
                if not any(_may_give_way(s) for s in before):
                    found.append(one)
        return found

    def _busy_beside(self, status: StageStatus, trainings: list[StageStatus]) -> float:
        """Processors that are busy if a stage runs, too: beside all trainings that run, or the
        largest to come. One that was started early behind another takes turns with it."""
        running = {s.entry.name for s in trainings if s.state in ACTIVE}
        needs = [(s, s.entry.stage.resources.training_cpus) for s in trainings]
        together = sum(
            n for s, n in needs if s.state in ACTIVE and running.isdisjoint(self._before(s))
        )
        trained = max(together, max(n for _, n in needs))
        active = [s.entry.stage.resources for s in self if s.state in ACTIVE]
        beside = sum(r.total.get("CPU", 0.0) + r.data_cpus for r in active if not r.training_cpus)
        return trained + beside + status.entry.stage.resources.total.get("CPU", 0.0)

    def _before(self, status: StageStatus) -> frozenset[str]:
        """The stages whose artifacts a stage needs, directly or not."""
        name = status.entry.name
        if name not in self._needs:
            found, waiting = set[str](), [status]
            while waiting:
                new = [s for s in self._inputs(waiting.pop()) if s.entry.name not in found]
                found.update(s.entry.name for s in new)
                waiting += new
            self._needs[name] = frozenset(found)
        return self._needs[name]

    def _inputs(self, status: StageStatus) -> list[StageStatus]:
        return [self.statuses[s.name] for s in status.entry.stage.inputs.values()]

    def _is_due(self, status: StageStatus, inputs: list[StageStatus]) -> bool:
        """False while a retry backs off, and for a cached stage until its inputs came out new."""
        if time.monotonic() < status.not_before:
            self.look_again(status)
            return False
        if status.entry.action != "cached" or status.state == "leased":
            return True
        if any(s.state not in ("done", "cached") for s in inputs):
            return False
        entry = status.entry
        manifest = self._storage.manifest(entry.name, entry.fingerprint)
        changed = manifest and changed_input(entry.stage, manifest, self._storage)
        if manifest and not changed:
            self.set(status, "cached")
            return False
        status.detail = f"input {changed} came out different"
        return True


def _may_give_way(status: StageStatus) -> bool:
    """Whether a stage that gives way is still to run, here or with another driver."""
    gives_way = status.entry.stage.resources.gives_way
    return gives_way and status.state not in FINISHED and status.state not in ACTIVE
