"""Real processes in a gloo group, and runs of the toy task in them."""

import gc
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from momo_platform.training.config import LoggingConfig, OptimizerConfig, TrainConfig
from momo_platform.training.loop import Trainer
from momo_platform.training.task import TrainingSetup
from tests.platform.training.toy import ToyLoader, ToyTask


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


def _enter(rank, world_size, store, function, arguments):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=world_size)
    function(rank, world_size, *arguments)
    leave_group()


def leave_group():
    """End the group when all ranks are done and nothing of DDP holds it any more: else gloo's
    threads may still run when the interpreter ends, which aborts."""
    dist.barrier()
    gc.collect()
    dist.destroy_process_group()


def run_ranks(function, world_size, *arguments):
    """`function(rank, world_size, *arguments)` in so many processes; returns when all are done."""
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        mp.spawn(_enter, (world_size, store, function, arguments), nprocs=world_size)


def make_trainer(rank, world_size, folder, train, loader=ToyLoader, task=ToyTask, **options):
    loaders = {n: loader(n, train.batch_sizes[n], rank, world_size) for n in train.batch_sizes}
    setup = TrainingSetup(task(), loaders, lambda *_: None)
    return Trainer(setup, train, Path(folder), rank=rank, **options)


def weights(trainer):
    return {n: p.detach().clone() for n, p in trainer.task.named_parameters()}


def assert_same_bits(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
