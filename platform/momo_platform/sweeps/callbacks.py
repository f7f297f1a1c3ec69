"""Tune's callbacks. Imports Ray."""

from __future__ import annotations

from typing import Any, ClassVar

from ray import tune

from momo_platform.sweeps.follow import Follower


class TellTrials(tune.Callback):
    """Tells the follower of every trial's start and end. Without state: Tune pickles it."""

    follower: ClassVar[Follower | None] = None
    """Of the sweep that this process runs."""

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        if self.follower is not None:
            self.follower.begin(trial)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        if self.follower is not None:
            self.follower.end(trial, failed=False)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        if self.follower is not None:
            self.follower.end(trial, failed=True)
