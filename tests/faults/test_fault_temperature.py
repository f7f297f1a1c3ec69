"""A temperature that reached its limit comes back when the pairs ask for it."""

import math
from pathlib import Path

import pytest
import torch

from momo.config import TaskConfig
from momo.model import build_model
from momo.tasks import MoMoTask
from momo_platform.training.config import (
    LoggingConfig,
    OptimizerConfig,
    ScalingConfig,
    TrainConfig,
)
from momo_platform.training.loop import Trainer
from momo_platform.training.records import read_records
from momo_platform.training.task import TrainingSetup
from tests.momo.making_batches import CONFIG, make_batch
from tests.ranks import run_ranks

ROWS, TURN, STEPS = 8, 6, 20
LIMIT = math.log(100.0)
SHARDINGS = ("ddp", "fsdp2")
ONLY_CONTRASTIVE = TaskConfig(modalities=("pair",), matching=0.0, pair_mlm=0.0, pair_mim=0.0)


class TurningPairs:
    """The same pairs at every step, and from step `TURN` on the same with other texts: what was
    learnt is wrong then, and only a higher temperature makes it cheaper."""

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        self.seconds_waiting = 0.0
        self.rows = slice(rank * ROWS // world_size, (rank + 1) * ROWS // world_size)

    def batch(self, step):
        pairs = make_batch("pair", ROWS)
        if step >= TURN:
            pairs["ids"] = pairs["ids"].roll(1, 0)
        return {name: values[self.rows].numpy() for name, values in pairs.items()}

    def iterate(self, start):
        while True:
            yield self.batch(start)
            start += 1

    def close(self):
        pass


def task_near_the_limit(log_scale: float) -> MoMoTask:
    task = MoMoTask(build_model(CONFIG, seed=1), ONLY_CONTRASTIVE)
    with torch.no_grad():
        task.model.contrastive.log_scale.fill_(log_scale)
    return task


@pytest.fixture(scope="module")
def learnt(tmp_path_factory) -> Path:
    """Weights that tell the first pairs apart, so that only a lower temperature makes them
    cheaper, and it is almost at its limit."""
    task = task_near_the_limit(LIMIT - 0.0005)
    task.model.contrastive.log_scale.requires_grad_(False)
    optimizer = torch.optim.Adam([p for p in task.parameters() if p.requires_grad], lr=0.004)
    pairs = make_batch("pair", ROWS)
    for _ in range(400):
        loss = task("pair", pairs)["contrastive"].sum / ROWS
        if loss < 0.02:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.02
    path = tmp_path_factory.mktemp("learnt") / "weights.pt"
    torch.save(task.state_dict(), path)
    return path


def train(rank: int, world_size: int, folder: str, learnt: str, changes: dict) -> None:
    config = TrainConfig(
        steps=STEPS,
        batch_sizes={"pair": ROWS},
        optimizer=OptimizerConfig(learning_rate=0.002, warmup_steps=1, clip_norm=1e9),
        logging=LoggingConfig(every_steps=1, checkpoint_every_steps=1000, tensorboard=False),
        **changes,
    )
    task = task_near_the_limit(LIMIT)
    task.load_state_dict(torch.load(learnt))
    loader = TurningPairs(rank, world_size)
    setup = TrainingSetup(task, {"pair": loader}, lambda *_: None)
    trainer = Trainer(setup, config, Path(folder), rank=rank)
    trainer.run()
    trainer.finish()
    if not rank:
        torch.save(task.model.contrastive.log_scale.detach(), f"{folder}/log_scale.pt")


def scales(folder: Path) -> list[float]:
    records = read_records(folder / "metrics.jsonl")
    return [record["metric/contrastive_scale"] for record in records]


def assert_it_came_back(folder: Path) -> None:
    logged = scales(folder)
    assert max(logged) == pytest.approx(100.0)  # the limit was reached, and never left
    assert logged[-1] < 99.0
    assert torch.load(folder / "log_scale.pt").item() < LIMIT


def test_a_temperature_at_its_limit_still_learns(tmp_path, learnt):
    train(0, 1, str(tmp_path), str(learnt), {"ema_decay": 0.5, "gradient_schedule": "joint"})
    assert_it_came_back(tmp_path)


def both_shardings(rank: int, world_size: int, folder: str, learnt: str) -> None:
    for sharding in SHARDINGS:
        scaling = ScalingConfig(num_workers=2, sharding=sharding)
        train(rank, world_size, f"{folder}/{sharding}", learnt, {"scaling": scaling})


def test_so_it_does_on_several_workers(tmp_path, learnt):
    for sharding in SHARDINGS:
        (tmp_path / sharding).mkdir()
    run_ranks(both_shardings, 2, str(tmp_path), str(learnt))
    for sharding in SHARDINGS:
        assert_it_came_back(tmp_path / sharding)


def test_weights_above_the_limit_come_back_in_any_loop():
    """An own loop calls no hooks, and weights of other models may lie above."""
    task = task_near_the_limit(LIMIT + 1.0)
    optimizer = torch.optim.AdamW(task.parameters(), lr=0.01)
    batch = TurningPairs().batch(TURN)
    loss = task("pair", {name: torch.from_numpy(values) for name, values in batch.items()})
    assert loss["contrastive"].metrics["contrastive_scale"].item() == pytest.approx(100.0)
    loss["contrastive"].sum.backward()
    optimizer.step()
    assert task.model.contrastive.log_scale.item() < LIMIT  # of pairs not yet learnt


def test_reading_a_model_changes_nothing_in_it():
    task = task_near_the_limit(LIMIT + 1.0).eval()
    with torch.no_grad():
        head = task.model.contrastive
        assert head.clamped_log_scale().item() == pytest.approx(LIMIT)
        assert head.log_scale.item() == pytest.approx(LIMIT + 1.0)
