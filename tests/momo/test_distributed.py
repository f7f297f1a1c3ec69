"""Two ranks' averaged gradient equals the one-process gradient of the global batch."""

from pathlib import Path

import torch
import torch.distributed as dist
from making_batches import CONFIG, make_batch

from momo.config import TaskConfig
from momo.model import build_model
from momo.tasks import MoMoTask
from tests.ranks import run_ranks


def build_task() -> MoMoTask:
    # Matching negatives are drawn among a rank's own rows, so they depend on the world size.
    return MoMoTask(build_model(CONFIG, seed=1), TaskConfig(modalities=("pair",), matching=0))


def pair_batch() -> dict:
    batch = make_batch("pair", rows=8)
    batch["ids"][6] = batch["ids"][1]  # one caption on both ranks: no negative
    return batch | {"group": torch.tensor([0, 1, 2, 3, 4, 0, 6, 7])}


def run_rank(rank: int, world_size: int, folder: str) -> None:
    task = build_task()
    losses = task("pair", {k: v[rank * 4 : rank * 4 + 4] for k, v in pair_batch().items()})
    total = torch.zeros(())
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
        torch.save(gradients, f"{folder}/gradients.pt")


def test_two_ranks_give_the_gradient_of_the_global_batch(tmp_path: Path):
    run_ranks(run_rank, 2, str(tmp_path))
    gradients = torch.load(tmp_path / "gradients.pt")
    task = build_task()
    losses = task("pair", pair_batch())
    sum(loss.sum / loss.count for loss in losses.values()).backward()
    expected = {n: p.grad for n, p in task.named_parameters() if p.grad is not None}
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        error = (gradients[name] - gradient).norm() / gradient.norm().clamp_min(1e-6)
        assert error < 1e-5, (name, error)
