"""Where a stage of a running plan stands, and whether the cluster can hold it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from momo_platform.stages.errors import UserError
from momo_platform.stages.plan import Plan, PlanEntry

State = Literal["queued", "leased", "starting", "running", "done", "cached", "failed", "not run"]
FINISHED: frozenset[State] = frozenset({"done", "cached", "failed", "not run"})
ACTIVE: frozenset[State] = frozenset({"starting", "running"})


@dataclass
class StageStatus:
    """What a display shows of one stage. `starting`: its processes are up, its inputs are not.
    `machine`: where its task runs, once that is known."""

    entry: PlanEntry
    state: State = "queued"
    detail: str = ""
    started: float = 0.0
    seconds: float = 0.0
    retries: int = 0
    not_before: float = 0.0
    error: str = ""
    machine: str = ""
    progress: dict[str, Any] = field(default_factory=dict)


def missing(asked: Mapping[str, float], there: Mapping[str, float]) -> list[str]:
    """The resources of which more is asked than there is."""
    return [name for name, amount in asked.items() if amount > there.get(name, 0.0) + 1e-9]


def may_be_joined(inputs: Sequence[StageStatus]) -> bool:
    """Whether a stage may start beside its inputs: all there or being made, and no trainer among
    them that is still starting, at first or after a lost worker, and needs the processors itself.
    """
    if any(s.state not in ("done", "cached", "running") for s in inputs):
        return False
    trainers = [s for s in inputs if s.state == "running" and s.entry.stage.resources.workers]
    return all(s.progress.get("first_step_at") is not None for s in trainers)


def check_feasible(plan: Plan, resources: Mapping[str, float]) -> None:
    """Raise UserError for a stage that asks for more than the cluster has, or can grow to."""
    for entry in plan.to_run:
        asked = entry.stage.resources.least
        for name in missing(asked, resources):
            raise UserError(
                f"stage {entry.name} needs {asked[name]:g} {name} at once, the cluster has "
                f"{resources.get(name, 0.0):g}: lower its workers or add machines"
            )
