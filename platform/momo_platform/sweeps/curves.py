"""The losses of trials while they train: for TensorBoard, and thinned for the dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MOST_POINTS = 200


class Curves:
    """Event files below `folder`, one for each trial's seed and stage."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, Any] = {}
        self._drawn: dict[str, int] = {}
        self._points: dict[str, dict[str, dict[str, list[tuple[int, float]]]]] = {}

    def draw(self, label: str, message: Mapping[str, Any], *, keeps: bool) -> None:
        """What a trial said last; `keeps` its points for the dashboard, too."""
        for stage, progress in {**message.get("ended", {}), **message["stages"]}.items():
            losses, step = progress.get("metrics"), progress.get("step")
            name = f"{label}/seed-{message['seed']}/{stage}"
            if not losses or not step or self._drawn.get(name) == step:
                continue
            self._drawn[name] = step
            if name not in self._writers:
                from tensorboardX import SummaryWriter

                self._writers[name] = SummaryWriter(str(self._folder / name))
            for key, value in losses.items():
                self._writers[name].add_scalar(f"loss/{key}", value, step)
                if keeps:
                    self._keep_point(label, stage, key, step, value)
            self._writers[name].flush()

    def _keep_point(self, label: str, stage: str, key: str, step: int, value: float) -> None:
        """Every second one goes when there are many."""
        points = self._points.setdefault(label, {}).setdefault(stage, {}).setdefault(key, [])
        points.append((step, value))
        if len(points) > _MOST_POINTS:
            del points[1::2]

    def of(self, label: str) -> Mapping[str, Any]:
        """Stage → loss → points of a trial that runs."""
        return self._points.get(label, {})

    def forget(self, label: str) -> None:
        """A trial that is over: its small curves go from the dashboard."""
        self._points.pop(label, None)

    def close(self) -> None:
        """End the files."""
        for writer in self._writers.values():
            writer.close()
