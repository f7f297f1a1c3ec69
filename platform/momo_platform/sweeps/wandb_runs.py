"""A sweep's trials as runs of Weights & Biases. Imports Ray."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ray.air.integrations.wandb import WandbLoggerCallback

from momo_platform.application import NAME
from momo_platform.stages import UserError
from momo_platform.stages.fingerprint import fingerprint
from momo_platform.sweeps.sweep import Settings, Sweep
from momo_platform.sweeps.trial import NUMBER, ROW, STEP, WATCHED, parameters_from, trial_name


class TrialRuns(WandbLoggerCallback):
    """One run a trial. Its id comes of the fingerprints of the trial's stages, so that a sweep that
    goes on has it once; its config is the trial's settings, where Tune knows a number only.

    Offline runs lie in `<folder>/wandb`, which outlives Tune's own folder.
    """

    def __init__(self, sweep: Sweep, folder: Path, mode: str | None) -> None:
        super().__init__(project=NAME, group=sweep.name, excludes=[ROW, STEP, WATCHED])
        self._sweep, self._place = sweep, {"dir": str(folder), "mode": mode, "resume": "allow"}
        self._trials: dict[str, str] = {}  # of each id

    def log_trial_start(self, trial: Any) -> None:
        parameters = parameters_from(self._sweep, trial.config)
        settings = dict(self._sweep.settings(parameters))
        number = trial.config.get(NUMBER)
        name = trial.trial_id if number is None else trial_name(number)
        self.kwargs = self._place | {
            "id": self._id(trial.trial_id, settings),
            "name": f"{name} {self._sweep.label(parameters)}",
            "config": {**parameters, **settings},
        }
        super().log_trial_start(trial)

    def _id(self, trial_id: str, settings: Settings) -> str:
        if self._sweep.is_population:  # restored by Tune, ids and all; settings change on the way
            return trial_id
        try:
            stages = [self._sweep.build(self._sweep.base, [settings], s) for s in self._sweep.seeds]
        except UserError:
            return trial_id
        text = json.dumps([self._sweep.name, *(fingerprint(stage) for stage in stages)])
        found = hashlib.sha256(text.encode()).hexdigest()[:12]
        if self._trials.setdefault(found, trial_id) != trial_id:  # a search may try settings twice
            return f"{found}-{trial_id}"
        return found
