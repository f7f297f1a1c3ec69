"""The gradient schedules against one process with the whole batch."""

import pytest
import torch
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from momo_platform.training.gradients import backward_pass, flat_gradient
from momo_platform.training.parallel import parallelise, touch
from momo_platform.training.task import TouchedTask
from momo_platform.training.turns import modalities_of_step
from tests.platform.training.toy import ToyLoader, ToyTask
from tests.ranks import run_ranks


def _batches(step, rank=0, world_size=1):
    return {
        name: {k: torch.from_numpy(v) for k, v in loader.batch(step).items()}
        for name in "ab"
        for loader in [ToyLoader(name, 12, rank, world_size)]
    }


def _reference(step):
    """Means over all rows, one backward, without any of the platform's code."""
    task = ToyTask()
    total = 0.0
    for name, batch in _batches(step).items():
        loss = task(name, batch)[name]
        total = total + task.weights[name] * loss.sum / loss.count
    total.backward()
    return flat_gradient(task)


@pytest.mark.parametrize("schedule", ["accumulate", "joint"])
def test_one_process_equals_the_reference(schedule):
    module = TouchedTask(ToyTask())
    backward_pass(module, _batches(3), module.task.weights, schedule)
    torch.testing.assert_close(flat_gradient(module), _reference(3), rtol=1e-6, atol=1e-7)


def _rank(rank, world_size, schedule, results):
    module = DistributedDataParallel(TouchedTask(ToyTask()))
    for step in (3, 4):  # the second step fails where a parameter was left untouched
        module.zero_grad()
        result = backward_pass(
            module, _batches(step, rank, world_size), ToyTask.weights, schedule, diagnose=True
        )
        read = result.read()
        losses = {k: v for k, v in read.items() if k.startswith("loss/")}
        results[rank, step] = (flat_gradient(module), losses, read.get("gradient_cosine/a/b"))


@pytest.mark.parametrize("schedule", ["accumulate", "joint"])
def test_two_ranks_equal_one_process(schedule):
    """Rows count unevenly on the ranks, so a mean of means would fail here."""
    with mp.get_context("spawn").Manager() as manager:
        results = manager.dict()
        run_ranks(_rank, 2, schedule, results)
        for step in (3, 4):
            expected = _reference(step)
            for rank in (0, 1):
                gradient, losses, cosine = results[rank, step]
                torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)
                assert losses == results[0, step][1]
            if schedule == "accumulate":
                assert -1.0 <= cosine <= 1.0


def _in_buckets(rank, world_size, set_to_none, results):
    module = parallelise(TouchedTask(ToyTask()), ToyTask(), "ddp")
    for step in (3, 4, 5):
        module.zero_grad(set_to_none=set_to_none)
        kept = {n: p.grad.data_ptr() for n, p in module.named_parameters() if p.grad is not None}
        batches = _batches(step, rank, world_size)
        backward_pass(module, batches, ToyTask.weights, "accumulate")
        results[rank, step] = flat_gradient(module)
        if kept and step == 5:  # views of the same buckets, which are laid out in the second step
            assert kept == {n: p.grad.data_ptr() for n, p in module.named_parameters()}


@pytest.mark.parametrize("set_to_none", [True, False])
def test_gradients_that_are_views_of_the_buckets_are_the_same(set_to_none):
    with mp.get_context("spawn").Manager() as manager:
        results = manager.dict()
        run_ranks(_in_buckets, 2, set_to_none, results)
        for (_, step), gradient in results.items():
            torch.testing.assert_close(gradient, _reference(step), rtol=1e-5, atol=1e-6)


class TouchedForNothing(TouchedTask):
    def forward(self, modality, batch, touch_all=False):
        parts, _ = super().forward(modality, batch)
        return parts, touch(self.parameters()) if touch_all else None


def _touched(rank, world_size, schedule, results):
    module = parallelise(TouchedForNothing(ToyTask()), ToyTask(), "ddp")
    for step in (3, 4, 5):
        module.zero_grad()
        batches = _batches(step, rank, world_size)
        backward_pass(module, batches, ToyTask.weights, schedule)
        results[rank, step] = flat_gradient(module)
    for name in "ab":  # one modality a step: the other's head gets a gradient of zeros
        module.zero_grad()
        batches = {name: _batches(3, rank, world_size)[name]}
        backward_pass(module, batches, ToyTask.weights, "accumulate")
        heads = {"a": module.module.task.head_a, "b": module.module.task.head_b}
        assert {n: bool(h.weight.grad.any()) for n, h in heads.items()} == {
            "a": name == "a",
            "b": name == "b",
        }


@pytest.mark.parametrize("schedule", ["accumulate", "joint"])
def test_parameters_can_be_touched_without_a_gradient_of_zeros(schedule):
    with mp.get_context("spawn").Manager() as manager:
        results = manager.dict()
        run_ranks(_touched, 2, schedule, results)
        for (_, step), gradient in results.items():
            torch.testing.assert_close(gradient, _reference(step), rtol=1e-5, atol=1e-6)


def test_alternate_draws_every_modality_from_the_seed():
    drawn = [modalities_of_step("alternate", ("a", "b"), 5, step, 40) for step in range(40)]
    assert set(drawn) == {("a",), ("b",)}
    assert drawn == [modalities_of_step("alternate", ("a", "b"), 5, step, 40) for step in range(40)]


def test_a_non_finite_loss_is_seen():
    batches = _batches(0)
    batches["b"]["x"][0, 0] = float("nan")
    batches["b"]["used"][0] = 1.0
    module = TouchedTask(ToyTask())
    assert not backward_pass(module, batches, module.task.weights, "accumulate").finite


def test_sequential_takes_one_modality_after_another():
    used = [modalities_of_step("sequential", ("a", "b", "c"), 5, step, 7) for step in range(7)]
    assert used == [("a",)] * 3 + [("b",)] * 2 + [("c",)] * 2
