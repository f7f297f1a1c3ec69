"""The board: a Ray actor that takes stages' progress and tells early starters their inputs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast


class Board:
    """Lives in one Ray actor a run. Plain values only."""

    def __init__(self) -> None:
        self._progress: dict[str, dict[str, Any]] = {}
        self._inputs: dict[str, dict[str, str]] = {}

    def report(self, stage: str, values: dict[str, Any]) -> None:
        self._progress.setdefault(stage, {}).update(values)

    def snapshot(self) -> dict[str, dict[str, Any]]:
        return self._progress

    def set_inputs(self, stage: str, inputs: dict[str, str]) -> None:
        self._inputs[stage] = inputs

    def inputs(self, stage: str) -> dict[str, str] | None:
        return self._inputs.get(stage)


class Reporter:
    """`context.progress`: sends without waiting; may be passed on to other Ray workers."""

    def __init__(self, board: Any, stage: str) -> None:
        self._board, self._stage = board, stage

    def __call__(self, values: dict[str, Any]) -> None:
        self._board.report.remote(self._stage, values)


class InputResolver:
    """`context.resolve_inputs`: waits until the driver has announced the stage's inputs."""

    def __init__(self, board: Any, stage: str) -> None:
        self._board, self._stage = board, stage

    def __call__(self) -> Mapping[str, Path]:
        import ray

        inputs: dict[str, str] | None = None
        while inputs is None:
            inputs = cast("dict[str, str] | None", ray.get(self._board.inputs.remote(self._stage)))
            if inputs is None:
                time.sleep(0.1)
        return {role: Path(path) for role, path in inputs.items()}
