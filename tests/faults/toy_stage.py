"""`python toy_stage.py FOLDER`: a training stage of the toy in this process, for `test_fault_*`.

What goes wrong is told by files in FOLDER: `kill` (the process is killed in step 5, once), `clock`
(of `shims.step_clock`: an hour back in step 5). It leaves `told.json` and `result.json`.
"""

import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import shims
import torch

from momo_platform.training.config import LoggingConfig, ScalingConfig
from momo_platform.training.stage import run_torch_trainer
from momo_platform.training.task import TrainingSetup
from tests.platform.training.toy import ToyLoader, ToyTask
from tests.platform.training.toy_runs import config

FINGERPRINT = "a1b2c3d4e5f6"
STEPS = 8


class Struck(ToyLoader):
    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, 12)
        self.folder = folder

    def batch(self, step):
        kill, clock = self.folder / "kill", self.folder / "clock"
        if step == 5 and kill.exists():
            kill.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if step == 5 and clock.exists() and self.name == "a":
            shims.step_clock(clock, -3600)
        return super().batch(step)


def build(recipe, inputs, train, rank, world_size, *_):
    folder = Path(recipe["folder"])
    told = {"threads": torch.get_num_threads()}
    (folder / "told.json").write_text(json.dumps(told))
    loaders = {name: Struck(name, folder) for name in "ab"}
    return TrainingSetup(ToyTask(), loaders, lambda task, output: None)


def run(folder: Path) -> None:
    output, checkpoints = folder / "output", folder / "checkpoints"
    for made in (output, checkpoints):
        made.mkdir(exist_ok=True)
    marks = []
    context = SimpleNamespace(
        output=output,
        checkpoints=checkpoints,
        folders=None,
        name="toy",
        fingerprint=FINGERPRINT,
        progress=marks.append,
    )
    logging = LoggingConfig(every_steps=1, checkpoint_every_steps=2, wandb=True)
    train = config(STEPS, scaling=ScalingConfig(num_workers=0))
    result = run_torch_trainer(
        builder=lambda: build,
        recipe={"folder": str(folder), "colour_of_the_run": "vermilion"},
        train=type(train)(**{**vars(train), "logging": logging}),
        resolve_inputs=dict,
        context=context,
    )
    told = {name: mark[name] for mark in marks for name in mark}
    (folder / "result.json").write_text(json.dumps(result | {"told": told}))


if __name__ == "__main__":
    run(Path(sys.argv[1]))
