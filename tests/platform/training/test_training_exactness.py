"""Schedules and worlds that must agree, over real processes."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from momo_platform.training.gradients import backward_pass, flat_gradient
from momo_platform.training.records import read_records
from momo_platform.training.task import TouchedTask
from tests.platform.training.toy import ToyLoader, ToyTask
from tests.platform.training.toy_runs import config, make_trainer
from tests.ranks import run_ranks


def batches(step, rank=0, world_size=1):
    return {
        name: {k: torch.from_numpy(v) for k, v in loader.batch(step).items()}
        for name in "ab"
        for loader in [ToyLoader(name, 12, rank, world_size)]
    }


def relative_error(value, expected):
    return ((value - expected).norm() / expected.norm()).item()


def gradient(schedule, step=3):
    module = TouchedTask(ToyTask())
    backward_pass(module, batches(step), ToyTask.weights, schedule)
    return flat_gradient(module)


def test_accumulate_gives_the_joint_gradient():
    for step in range(5):
        assert relative_error(gradient("accumulate", step), gradient("joint", step)) < 1e-6


def manual_gradient(rank, world_size, step):
    """Sums, counts and gradients all-reduced by hand."""
    task = ToyTask()
    total = torch.zeros(())
    for name, batch in batches(step, rank, world_size).items():
        loss = task(name, batch)[name]
        count = loss.count.clone()
        dist.all_reduce(count)
        total = total + task.weights[name] * loss.sum / count
    total.backward()
    manual = flat_gradient(task)
    dist.all_reduce(manual)
    return manual


def compare_with_manual(rank, world_size):
    module = DistributedDataParallel(TouchedTask(ToyTask()))
    for step in range(3):
        module.zero_grad()
        backward_pass(module, batches(step, rank, world_size), ToyTask.weights, "accumulate")
        expected = manual_gradient(rank, world_size, step)
        assert relative_error(flat_gradient(module), expected) < 1e-6


@pytest.mark.parametrize("world_size", [2, 4])
def test_accumulation_under_ddp_equals_a_manual_reduction(world_size):
    run_ranks(compare_with_manual, world_size)


class Counter:
    def __init__(self):
        self.buckets = 0

    def hook(self, group, bucket):
        self.buckets += 1
        return allreduce_hook(group, bucket)


def count_synchronisations(rank, world_size):
    for schedule in ("accumulate", "joint"):
        counter = Counter()
        module = DistributedDataParallel(TouchedTask(ToyTask()))
        module.register_comm_hook(dist.group.WORLD, counter.hook)
        for step in range(4):
            module.zero_grad()
            backward_pass(module, batches(step, rank, world_size), ToyTask.weights, schedule)
            assert counter.buckets == step + 1  # the toy's gradients fit into one bucket


def test_an_update_synchronises_gradients_once():
    run_ranks(count_synchronisations, 2)


def train(rank, world_size, folder, train_config):
    make_trainer(rank, world_size, folder, train_config).run()


def loss_curve(folder):
    return [(r["loss/a"], r["loss/b"]) for r in read_records(folder / "metrics.jsonl")]


def test_one_two_and_four_workers_follow_one_loss_curve(tmp_path):
    for world_size in (1, 2, 4):
        run_ranks(train, world_size, str(tmp_path / str(world_size)), config())
    expected = torch.tensor(loss_curve(tmp_path / "1"))
    assert expected.shape == (50, 2)
    assert expected[-5:].mean() < 0.7 * expected[:5].mean()  # it learns
    for world_size in (2, 4):
        curve = torch.tensor(loss_curve(tmp_path / str(world_size)))
        torch.testing.assert_close(curve, expected, rtol=1e-4, atol=1e-4)


def train_until(rank, world_size, folder, train_config, until):
    calls = iter(range(10**6))
    trainer = make_trainer(rank, world_size, folder, train_config)
    start = trainer.start_step
    trainer.stop = lambda: start + next(calls) + 1 == until
    if until == train_config.steps:
        trainer.run()
        return
    from momo_platform.training.interrupt import TrainingInterrupted

    with pytest.raises(TrainingInterrupted, match=str(until)):
        trainer.run()


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["accumulate", "alternate"])
def test_two_workers_then_one_then_two_go_on(tmp_path, schedule):
    train_config = config(gradient_schedule=schedule)
    run_ranks(train, 2, str(tmp_path / "whole"), train_config)
    for world_size, until in ((2, 17), (1, 34), (2, 50)):
        run_ranks(train_until, world_size, str(tmp_path / "parts"), train_config, until)
    whole = read_records(tmp_path / "whole" / "metrics.jsonl")
    parts = read_records(tmp_path / "parts" / "metrics.jsonl")
    assert [r["step"] for r in whole] == [r["step"] for r in parts] == list(range(1, 51))
    for one, other in zip(whole, parts, strict=True):
        losses = {k: v for k, v in one.items() if k.startswith("loss/")}
        assert losses == pytest.approx({k: other[k] for k in losses}, rel=1e-4, abs=1e-4)
