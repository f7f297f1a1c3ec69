"""Runs of the toy task."""

from pathlib import Path

import torch

from momo_platform.training.config import LoggingConfig, OptimizerConfig, TrainConfig
from momo_platform.training.loop import Trainer
from momo_platform.training.task import TrainingSetup
from tests.platform.training.toy import ToyLoader, ToyTask, toy_held_out


def config(steps=50, checkpoint_every=1000, **changes):
    return TrainConfig(
        steps=steps,
        batch_sizes={"a": 12, "b": 12},
        optimizer=OptimizerConfig(learning_rate=0.01, warmup_steps=3),
        logging=LoggingConfig(
            every_steps=1, checkpoint_every_steps=checkpoint_every, tensorboard=False
        ),
        **changes,
    )


def make_trainer(
    rank, world_size, folder, train, loader=ToyLoader, task=ToyTask, held_out=None, **options
):
    loaders = {n: loader(n, train.batch_sizes[n], rank, world_size) for n in train.batch_sizes}
    held_out = toy_held_out(held_out or {}, rank, world_size)
    setup = TrainingSetup(task(), loaders, lambda *_: None, held_out)
    return Trainer(setup, train, Path(folder), rank=rank, **options)


def weights(trainer):
    return {n: p.detach().clone() for n, p in trainer.task.named_parameters()}


def assert_same_bits(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
