"""The board: a Ray actor that takes stages' progress and tells early starters their inputs."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

MACHINE = "machine"
"""What a task reports first: the name of the machine that it runs on."""


class Board:
    """Lives in one Ray actor a run, whose calls share an event loop. Plain values only."""

    def __init__(self) -> None:
        self._progress: dict[str, dict[str, Any]] = {}
        self._announced: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def report(self, stage: str, values: dict[str, Any]) -> None:
        self._progress.setdefault(stage, {}).update(values)

    def drain(self) -> dict[str, dict[str, Any]]:
        """What was reported since the last call."""
        progress, self._progress = self._progress, {}
        return progress

    def announce(self, stage: str) -> None:
        """The stage's inputs are all there."""
        self._announced[stage].set()

    async def announced(self, stage: str) -> None:
        """Ends once they are: whoever asks again and again takes time from those who compute."""
        await self._announced[stage].wait()


class Reporter:
    """`context.progress`: sends without waiting; may be passed on to other Ray workers."""

    def __init__(self, board: Any, stage: str) -> None:
        self._board, self._stage = board, stage

    def __call__(self, values: dict[str, Any]) -> None:
        self._board.report.remote(self._stage, values)
