"""How long a job has still to go: what its stages report, and what earlier runs of them took.

Nothing is guessed. A stage of which nothing is known is named, and the time is then a least one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from momo_platform.stages.fingerprint import canonical
from momo_platform.stages.manifest import Manifest
from momo_platform.stages.plan import Plan, PlanEntry
from momo_platform.stages.stage import Stage
from momo_platform.stages.storage.artifacts import Storage

if TYPE_CHECKING:
    from momo_platform.stages.status import StageStatus

_OVER = ("done", "cached", "failed", "not run")
_OF_A_RUN = ("steps", "seed", "optimizer")
"""Fields of a training config that do not change what a step costs."""


def rough(seconds: float) -> str:
    """'20 s', '12 min', '2 h 05 min': as exact as a forecast is."""
    if seconds < 90:
        return f"{max(10, round(seconds / 10) * 10)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


@dataclass(frozen=True)
class TimeLeft:
    """`seconds`: until what is known is done; `unknown`: stages of which nothing is known."""

    seconds: float
    unknown: tuple[str, ...] = ()

    def __str__(self) -> str:
        """'about 12 min left'; with unknown stages 'at least …', or that nothing is known yet."""
        return self._told(" left", "time left not known yet")

    @property
    def planned(self) -> str:
        """The same of a plan: 'about 12 min, by earlier runs with the same settings'."""
        by = "" if self.unknown and self.seconds < 1 else ", by earlier runs with the same settings"
        return self._told("", "time not known") + by

    def _told(self, left: str, nothing: str) -> str:
        if not self.unknown:
            return f"about {rough(self.seconds)}{left}"
        names = ", ".join(self.unknown[:2])
        more = f" and {len(self.unknown) - 2} more" if len(self.unknown) > 2 else ""
        if self.seconds < 1:
            return f"{nothing}: {names}{more} never ran with these settings"
        return f"at least {rough(self.seconds)}{left}, not counting {names}{more}"


def _without_run(config: Any) -> Any:
    """A stage's config without the fields that don't change what a step costs."""
    if not isinstance(config, Mapping) or not isinstance(config.get("train"), Mapping):
        return config
    train = {k: v for k, v in config["train"].items() if k not in _OF_A_RUN}
    rest = {k: v for k, v in config.items() if not k.startswith("initial")}
    return {**rest, "train": train}


def _steps(config: Any) -> float | None:
    train = config.get("train") if isinstance(config, Mapping) else None
    return train.get("steps") if isinstance(train, Mapping) else None


def earlier_seconds(
    stage: Stage, manifests: Iterable[Manifest], from_step: int = 0
) -> float | None:
    """What the stage would take by the newest of earlier runs with the same settings and resources;
    None where there is none.

    A training stage may differ in its steps, seed and learning rate: its time is that of the steps
    after `from_step`, and what it took beside training.
    """
    config, asked = canonical(stage.config), stage.resources.total
    steps = _steps(config)
    for manifest in manifests:
        if dict(manifest.resources) != asked or _without_run(manifest.config) != _without_run(
            config
        ):
            continue
        metrics = manifest.metrics
        if steps is None or "seconds_training" not in metrics:
            if manifest.config == config:
                return manifest.seconds
            continue
        made = metrics["steps"] - metrics.get("resumed_at_step", 0)
        if made <= 0:
            continue
        training = metrics["seconds_training"]
        rest = max(0.0, manifest.seconds - training)
        return rest + training / made * max(0.0, steps - from_step)
    return None


def cpu_seconds(plan: Plan, storage: Storage) -> dict[str, float | None]:
    """Stage that the plan would run → its seconds by an earlier run in the storage with the same
    resources, whatever they are; None where there was none."""
    found = {}
    for entry in plan.to_run:
        step = None
        if entry.action == "resume":
            step = storage.newest_checkpoint(entry.name, entry.fingerprint)
        found[entry.name] = earlier_seconds(entry.stage, storage.others(entry.name), step or 0)
    return found


def planned_time(plan: Plan, storage: Storage, cores: float) -> TimeLeft:
    """How long the plan would take on so many cores; its `planned` is a sentence for `--plan`."""
    known = cpu_seconds(plan, storage)
    entries = [e for e in plan.entries if e.name in known]
    return _together(entries, {n: s or 0.0 for n, s in known.items()}, cores, known)


def _together(
    entries: Sequence[PlanEntry],
    seconds: Mapping[str, float],
    cores: float,
    known: Mapping[str, float | None],
) -> TimeLeft:
    """Stages side by side: as long as the longest chain, or as all work on all cores."""
    ends: dict[str, float] = {}
    work = 0.0
    for entry in entries:  # inputs come first
        before = [ends.get(s.name, 0.0) for s in entry.stage.inputs.values()]
        ends[entry.name] = max(before, default=0.0) + seconds[entry.name]
        work += seconds[entry.name] * entry.stage.resources.least.get("CPU", 0.0)
    longest = max(ends.values(), default=0.0)
    unknown = tuple(e.name for e in entries if known[e.name] is None)
    return TimeLeft(max(longest, work / max(cores, 1.0)), unknown)


def trials_left(
    took: Sequence[float], going: Sequence[float], waiting: int, at_once: int
) -> TimeLeft | None:
    """Of a sweep, from the seconds that its ended trials took: `going` are those of the trials that
    run, `waiting` how many have not begun. None where no trial has ended. The first ones may have
    made what all share, so that it comes out rather too long."""
    if not took:
        return None
    mean = sum(took) / len(took)
    left = waiting * mean + sum(max(0.0, mean - seconds) for seconds in going)
    return TimeLeft(left / max(1, min(at_once, waiting + len(going))))


class Forecast:
    """Statuses of a running plan → the time left. What ended in this job counts for stages that do
    the same with the same settings, e.g. the evaluation of another training stage."""

    def __init__(self, plan: Plan, storage: Storage, cores: float) -> None:
        self._known = cpu_seconds(plan, storage)
        self._cores = cores
        self._kinds = {e.name: _kind(e.stage) for e in plan.entries}

    def __call__(self, statuses: Sequence[StageStatus]) -> TimeLeft:
        like = {self._kinds[s.entry.name]: s.seconds for s in statuses if s.state == "done"}
        known: dict[str, float | None] = {}
        for status in statuses:
            if status.state not in _OVER:
                known[status.entry.name] = self._left(status, like)
        entries = [s.entry for s in statuses if s.entry.name in known]
        return _together(entries, {n: s or 0.0 for n, s in known.items()}, self._cores, known)

    def _left(self, status: StageStatus, like: Mapping[str, float]) -> float | None:
        name, progress = status.entry.name, status.progress
        if status.entry.action == "cached" and status.state == "queued":
            return 0.0  # behind an input that is made again: it comes out equal, as a rule
        whole = self._known.get(name)
        if whole is None:
            whole = like.get(self._kinds[name])
        if status.state != "running":
            return whole
        if "eta_seconds" in progress:
            return float(progress["eta_seconds"])
        step, total = progress.get("step"), progress.get("total")
        if step and total:
            return status.seconds * max(0.0, total / step - 1)
        return None if whole is None else max(0.0, whole - status.seconds)


def _kind(stage: Stage) -> str:
    """Equal for stages that do the same with the same settings to other inputs."""
    run = f"{stage.run.__module__}:{stage.run.__qualname__}"
    return f"{run} {json.dumps(canonical(stage.config), sort_keys=True)} {stage.resources}"
