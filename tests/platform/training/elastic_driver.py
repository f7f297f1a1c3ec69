"""A driver of its own, for a cluster whose nodes come and go: trains the toy task on one or two
workers, and every worker writes down which rows it saw."""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist

from momo_platform.data.share import share
from momo_platform.training.config import (
    LoggingConfig,
    OptimizerConfig,
    ScalingConfig,
    TrainConfig,
)
from momo_platform.training.stage import run_torch_trainer
from momo_platform.training.task import TrainingSetup
from tests.platform.training.toy import ToyLoader, ToyTask

ROWS, UNIT = 10, 2  # of two workers one gets 4 rows, one 6
TRAIN = TrainConfig(
    steps=400,
    batch_sizes={"a": ROWS, "b": ROWS},
    optimizer=OptimizerConfig(learning_rate=0.01, warmup_steps=3),
    logging=LoggingConfig(every_steps=1, checkpoint_every_steps=5, tensorboard=False),
    ema_decay=0.9,
    scaling=ScalingConfig(
        num_workers=2,
        min_workers=1,
        cpus_per_worker=1,
        threads_per_worker=1,
        max_restarts=5,
        resize_check_seconds=2.0,
    ),
)


class Noting(ToyLoader):
    """`step first last world` of each batch, a line of the file of this rank and group."""

    def __init__(self, name, rank, world_size, file, seconds):
        super().__init__(name, ROWS, 0, 1)
        self.rows, self.world_size = share(ROWS, rank, world_size, UNIT), world_size
        self.file, self.seconds = file, seconds

    def batch(self, step):
        time.sleep(self.seconds)
        with self.file.open("a") as file:
            file.write(f"{step} {self.rows.start} {self.rows.stop} {self.world_size}\n")
        return {k: v[self.rows.start : self.rows.stop] for k, v in super().batch(step).items()}


def build_setup(recipe, inputs, train, rank, world_size, cores):
    began = torch.tensor(time.time(), dtype=torch.float64)
    if dist.is_initialized():
        dist.broadcast(began, 0)  # one name for all of a group's files
    folder = Path(recipe["seen"])
    loaders = {
        n: Noting(n, rank, world_size, folder / f"{n}-{float(began)}-{rank}", recipe["seconds"])
        for n in "ab"
    }

    def save(task, folder):
        torch.save(task.state_dict(), folder / "weights.pt")

    return TrainingSetup(ToyTask(), loaders, save)


def builder():
    from tests.platform.training import elastic_driver  # where workers find it, too

    return elastic_driver.build_setup


def main(address, folder):
    import ray

    folder = Path(folder)
    ray.init(address, log_to_driver=False)
    for name in ("seen", "output", "checkpoints"):
        (folder / name).mkdir(parents=True)
    result = run_torch_trainer(
        builder=builder,
        recipe={"seen": str(folder / "seen"), "seconds": 0.05},
        train=TRAIN,
        resolve_inputs=dict,
        context=SimpleNamespace(
            output=folder / "output",
            checkpoints=folder / "checkpoints",
            folders=None,
            name="elastic",
            fingerprint="",
            progress=lambda message: None,
        ),
    )
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
