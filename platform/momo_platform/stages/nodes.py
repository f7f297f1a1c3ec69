"""What the cluster has, and stages that wait for nodes which are not there (yet, or any more)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from momo_platform.stages.errors import UserError
from momo_platform.stages.status import StageStatus, missing

_LOOK_SECONDS = 2.0
_LEAST_AT_ONCE = 8


class Nodes:
    """Of the connected cluster, which may grow (to `growth`) and shrink. `wait_seconds`: a stage's
    patience."""

    def __init__(
        self,
        resources: Mapping[str, float],
        wait_seconds: float,
        growth: Mapping[str, float] | None = None,
    ) -> None:
        self.most_cpus = (growth or {}).get("CPU", 0.0)
        self._wait_seconds, self._next_look = wait_seconds, 0.0
        self._waiting: dict[str, float] = {}  # stage → since when its nodes are missing
        self._note(resources)

    def _note(self, resources: Mapping[str, float]) -> None:
        self.cpus = resources.get("CPU", 0.0)
        # A stage's task may need no CPU: without a bound Ray would start a process for each.
        self.most_at_once = max(_LEAST_AT_ONCE, int(2 * self.cpus))

    def look(
        self, ray: Any, active: Iterable[StageStatus]
    ) -> Iterator[tuple[StageStatus, Exception]]:
        """Say of the running ones which wait for nodes; gives those that have waited too long,
        with the error that they end with."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_SECONDS
        there = ray.cluster_resources()
        self._note(there)
        for status in [s for s in active if s.state == "running"]:
            name, asked = status.entry.name, status.entry.stage.resources.least
            lacking = missing(asked, there)
            if not lacking:
                if self._waiting.pop(name, None):
                    status.detail = ""
                continue
            since = self._waiting.setdefault(name, time.monotonic())
            needs = " and ".join(
                f"{asked[r]:g} {r} (the cluster has {there.get(r, 0.0):g})" for r in lacking
            )
            status.detail = f"waits for nodes with {needs}"
            if time.monotonic() - since > self._wait_seconds:
                yield (
                    status,
                    UserError(
                        f"no nodes with {needs} came within {self._wait_seconds:g} s: see `ray "
                        "status` for the autoscaler's reason, or wait longer (--run.wait-minutes)"
                    ),
                )
