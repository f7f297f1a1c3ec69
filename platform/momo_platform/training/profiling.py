"""A trace of a few steps: where a step's time goes, on the host and on the device."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch

from momo_platform.training.records import PROFILE_FILE_NAME

_FIRST = 10  # by then kernels are chosen, compiled and warm
_WARM_UP = 2


class Profiler:
    """Traces `steps` steps from the tenth of this process on, or from its first where a run is
    shorter. Writes `profile.json.gz` into `folder`, which Perfetto and chrome://tracing open."""

    def __init__(self, folder: Path, steps: int, ahead: int) -> None:
        """`ahead`: steps that the run still has. `steps` 0: nothing is traced."""
        self._profile: Any = None
        if not steps or not ahead:
            return
        file = folder / PROFILE_FILE_NAME
        first = max(0, min(_FIRST, ahead - steps))
        warm_up = min(_WARM_UP, first)
        activities = [torch.profiler.ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        self._profile = torch.profiler.profile(
            activities=activities,
            schedule=torch.profiler.schedule(
                wait=first - warm_up, warmup=warm_up, active=min(steps, ahead), repeat=1
            ),
            on_trace_ready=lambda profile: profile.export_chrome_trace(str(file)),
            record_shapes=True,
        )
        self._profile.start()

    def step(self) -> None:
        """A step ended."""
        if self._profile is not None:
            self._profile.step()

    def close(self) -> None:
        """Write what was traced, if the run ended before."""
        if self._profile is not None:
            with contextlib.suppress(RuntimeError):  # nothing was traced yet
                self._profile.stop()
            self._profile = None
