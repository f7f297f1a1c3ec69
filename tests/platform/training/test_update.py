"""The update: a step decided on the device, clipping, averaging; sharded or not."""

import math

import pytest
import torch

from momo_platform.training.average import WeightAverage, lerp_by_tensor
from momo_platform.training.config import OptimizerConfig
from momo_platform.training.optimizer import build_optimizer, update_where_finite
from momo_platform.training.parallel import (
    clip_gradients,
    copies_on_host,
    local_part,
    parallelise,
    whole,
)
from tests.platform.training.toy import ToyTask
from tests.ranks import run_ranks


class WithScalar(ToyTask):
    """FSDP2 does not shard a parameter without dimension; of a head of one row one rank has all."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1.5))


def fill_gradients(module, step, bad=False):
    for number, parameter in enumerate(module.parameters()):
        generator = torch.Generator().manual_seed(100 * step + number)
        value = torch.randn(parameter.shape, generator=generator)
        if bad:
            value = value / 0.0
        if isinstance(parameter, torch.distributed.tensor.DTensor):
            value = torch.distributed.tensor.distribute_tensor(
                value, parameter.device_mesh, parameter.placements
            )
        parameter.grad = value


def state_of(module, optimizer):
    """All that an update may change."""
    moments = [local_part(v) for p in module.parameters() for v in optimizer.state[p].values()]
    return [t.detach().clone() for t in (*map(local_part, module.parameters()), *moments)]


def same_bits(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def update_as_the_flag_says(rank, world_size):
    """The third of five steps is not finite; beside it a run by plain steps that leaves it out."""
    modules = [WithScalar(), WithScalar()]
    for module in modules:
        parallelise(module, module, "fsdp2")
    decided, plain = modules
    ours, theirs = (build_optimizer(m, OptimizerConfig()) for m in modules)
    for step in range(5):
        bad = step == 2
        fill_gradients(decided, step, bad)
        before = state_of(decided, ours) if step else None
        flag = torch.tensor(not bad) if step % 2 else torch.tensor(float(not bad))
        update_where_finite(ours, flag)
        if bad:
            assert same_bits(state_of(decided, ours), before)
            continue
        fill_gradients(plain, step)
        theirs.step()
        assert same_bits(state_of(decided, ours), state_of(plain, theirs))
    assert {float(s["step"]) for s in ours.state.values()} == {4.0}
    assert not hasattr(ours, "found_inf")


def test_a_step_that_is_not_finite_changes_no_bit_and_others_are_plain_ones():
    update_as_the_flag_says(0, 1)


def test_where_sharded_too():
    run_ranks(update_as_the_flag_says, 2)


def test_a_first_step_that_is_not_finite_counts_for_nothing():
    module = ToyTask()
    optimizer = build_optimizer(module, OptimizerConfig())
    fill_gradients(module, 0, bad=True)
    update_where_finite(optimizer, torch.tensor(0.0))
    assert same_bits(module.parameters(), ToyTask().parameters())
    assert not any(v.any() for state in optimizer.state.values() for v in state.values())


def clip_sharded(rank, world_size):
    module, reference = WithScalar(), WithScalar()
    parallelise(module, module, "fsdp2")
    for most in (0.5, 1e9):
        fill_gradients(module, 7)
        fill_gradients(reference, 7)
        norm = clip_gradients(module, most)
        expected = clip_gradients(reference, most)
        torch.testing.assert_close(norm, expected)
        for ours, theirs in zip(module.parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(whole(ours.grad), theirs.grad)
    fill_gradients(module, 7, bad=True)
    assert not math.isfinite(clip_gradients(module, 1.0))


@pytest.mark.parametrize("world_size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_sharded_gradients_are_clipped_as_whole_ones(world_size):
    run_ranks(clip_sharded, world_size)


def test_a_step_left_out_leaves_the_average_and_its_count():
    module, plain = ToyTask(), ToyTask()
    average, expected = WeightAverage(module, 0.9), WeightAverage(plain, 0.9)
    for step in range(6):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 0.1 * (step + 1)
            for parameter, value in zip(plain.parameters(), module.parameters(), strict=True):
                parameter.copy_(value)
        left_out = step in (1, 4)
        average.update(torch.tensor(not left_out))
        if not left_out:
            expected.update()
    ours, theirs = average.snapshot(), expected.snapshot()
    assert int(ours["updates"]) == 4
    assert all(torch.equal(ours[n], theirs[n]) for n in theirs)


def test_lerp_by_tensor_is_the_lerp():
    tensors = [p.detach() for p in ToyTask().parameters()]
    ours, theirs = [t.clone() for t in tensors], [t.clone() for t in tensors]
    lerp_by_tensor(ours, [t + 1.0 for t in tensors], torch.tensor(0.3, dtype=torch.float64))
    torch._foreach_lerp_(theirs, [t + 1.0 for t in tensors], 0.3)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
    lerp_by_tensor(ours, [t + 5.0 for t in tensors], torch.tensor(0.0, dtype=torch.float64))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
        ),
    ],
)
def test_copies_on_the_host_are_copies(device):
    tensors = {"a": torch.arange(6.0, device=device), "step": torch.tensor(3.0, device=device)}
    copies = copies_on_host(tensors.items())
    for tensor in tensors.values():
        tensor += 1
    assert torch.equal(copies["a"], torch.arange(6.0))
    assert float(copies["step"]) == 3.0
    assert all(value.is_pinned() == (device == "cuda") for value in copies.values())
