"""FSDP2 in bf16 against the unsharded run under autocast; in fp32 against the unsharded one."""

import pytest
import torch
from making_batches import CONFIG, make_batch

from momo.config import TaskConfig
from momo.model import build_model
from momo.tasks import MoMoTask
from momo_platform.training.gradients import backward_pass
from momo_platform.training.parallel import local_part, parallelise, whole
from momo_platform.training.task import TouchedTask
from tests.ranks import run_ranks

ALL = ("image", "text", "pair")


def losses_and_gradients(rank, world_size, bf16, sharding="fsdp2"):
    # Matching negatives are drawn among a rank's own rows, so they depend on the world size.
    task = MoMoTask(build_model(CONFIG, seed=1), TaskConfig(matching=0))
    module = TouchedTask(task, bf16)
    parallel = parallelise(module, task, sharding, bf16)
    rows = slice(rank * 8 // world_size, (rank + 1) * 8 // world_size)
    batches = {n: {k: v[rows] for k, v in make_batch(n).items()} for n in ALL}
    result = backward_pass(parallel, batches, task.weights, "accumulate")
    assert all(p.dtype == torch.float32 for p in module.parameters())
    gradients = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
    assert all(local_part(g).dtype == torch.float32 for g in gradients.values())
    return {n: float(v) for n, v in result.losses.items()}, {
        n: whole(g).clone() for n, g in gradients.items()
    }


def run_rank(rank, world_size, bf16, file):
    found = losses_and_gradients(rank, world_size, bf16)
    if not rank:
        torch.save(found, file)


def distance(gradients, expected):
    """Of all gradients as one vector."""
    assert gradients.keys() == expected.keys()
    difference = sum((gradients[n] - g).square().sum() for n, g in expected.items())
    return float((difference / sum(g.square().sum() for g in expected.values())).sqrt())


@pytest.mark.parametrize("bf16", [False, True])
def test_sharded_gives_the_unsharded_losses_and_gradients(tmp_path, bf16):
    run_ranks(run_rank, 2, bf16, str(tmp_path / "found"))
    losses, gradients = torch.load(tmp_path / "found")
    expected_losses, expected = losses_and_gradients(0, 1, bf16)
    exact_losses, exact = losses_and_gradients(0, 1, False)
    tolerance = 2e-2 if bf16 else 1e-5
    assert losses == pytest.approx(expected_losses, rel=tolerance)
    assert losses == pytest.approx(exact_losses, rel=tolerance)
    assert distance(gradients, exact) < (2.0 * distance(expected, exact) if bf16 else 1e-5)
