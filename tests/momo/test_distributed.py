"""Two ranks' averaged gradient equals the one-process gradient of the global batch."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from making_batches import CONFIG, make_batch

from momo.config import TaskConfig
from momo.model import build_model
from momo.tasks import MoMoTask
from tests.ranks import run_ranks


def build_task(prefixes: tuple[int, ...] = ()) -> MoMoTask:
    # Matching negatives are drawn among a rank's own rows, so they depend on the world size.
    config = TaskConfig(modalities=("pair",), matching=0, contrastive_prefixes=prefixes)
    return MoMoTask(build_model(CONFIG, seed=1), config)


def pair_batch() -> dict:
    batch = make_batch("pair", rows=8)
    batch["ids"][6] = batch["ids"][1]  # one caption on both ranks: no negative
    return batch | {"group": torch.tensor([0, 1, 2, 3, 4, 0, 6, 7])}


def run_rank(
    rank: int, world_size: int, folder: str, rows: tuple[int, ...], prefixes: tuple[int, ...]
) -> None:
    task = build_task(prefixes)
    task.rows_of_ranks = rows
    start = sum(rows[:rank])
    losses = task("pair", {k: v[start : start + rows[rank]] for k, v in pair_batch().items()})
    total = torch.zeros(())
    accuracy = losses["contrastive"].metrics["contrastive_accuracy"] * rows[rank]
    dist.all_reduce(accuracy)
    for loss in losses.values():
        count = loss.count.clone()
        dist.all_reduce(count)
        total = total + loss.sum * world_size / count  # times the world size: ranks are averaged
    total.backward()
    gradients = {}
    for name, parameter in task.named_parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            gradients[name] = parameter.grad / world_size
    if rank == 0:
        torch.save((gradients, accuracy / sum(rows)), f"{folder}/gradients.pt")


@pytest.mark.parametrize(("rows", "prefixes"), [((4, 4), ()), ((5, 3), ()), ((5, 3), (4, 8))])
def test_two_ranks_give_the_gradient_of_the_global_batch(
    tmp_path: Path, rows: tuple[int, ...], prefixes: tuple[int, ...]
):
    run_ranks(run_rank, 2, str(tmp_path), rows, prefixes)
    gradients, accuracy = torch.load(tmp_path / "gradients.pt")
    task = build_task(prefixes)
    losses = task("pair", pair_batch())
    torch.testing.assert_close(accuracy, losses["contrastive"].metrics["contrastive_accuracy"])
    sum(loss.sum / loss.count for loss in losses.values()).backward()
    expected = {n: p.grad for n, p in task.named_parameters() if p.grad is not None}
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        error = (gradients[name] - gradient).norm() / gradient.norm().clamp_min(1e-6)
        assert error < 1e-5, (name, error)
