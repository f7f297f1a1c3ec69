"""MoMo measured on held-out rows while it trains: any number of ranks, sharded, in parts."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from making_batches import CONFIG, make_batch

from momo.config import TaskConfig
from momo.losses import pair_keys
from momo.model import build_model
from momo.retrieval import retrieval
from momo.tasks import MoMoTask
from momo_platform.data.held_out_rows import HeldOutRows
from momo_platform.training.config import ScalingConfig, ValidationConfig
from momo_platform.training.loop import Trainer
from momo_platform.training.records import read_records
from momo_platform.training.task import TrainingSetup
from tests.momo.test_training import ALL, TRAIN, Batches
from tests.ranks import run_ranks

TASK = TaskConfig(matching_group=4)
# Of pairs three batches of eight, the last of which two ranks share as they do the others.
TRAINED = replace(TRAIN, steps=2, validation=ValidationConfig(every_steps=1, rows=24))


class Rows:
    row_group = 256

    def __init__(self, modality):
        self.modality = modality

    def __len__(self):
        return 24

    def read(self, rows):
        return {k: v[rows].numpy() for k, v in make_batch(self.modality, 24, seed=77).items()}


def make_trainer(folder, rank=0, world_size=1, scaling=None):
    task = MoMoTask(build_model(CONFIG, seed=1), TASK)
    loaders = {n: Batches(n, rank, world_size) for n in ALL}
    held_out = {
        n: HeldOutRows(
            Rows(n),
            lambda batch, _: batch,
            rank=rank,
            world_size=world_size,
            unit=4 if n == "pair" else 1,
        )
        for n in ALL
    }
    train = replace(TRAINED, scaling=scaling or ScalingConfig())
    setup = TrainingSetup(task, loaders, lambda *_: None, held_out)
    return Trainer(setup, train, Path(folder), rank=rank)


def run_rank(rank, world_size, folder, scaling):
    make_trainer(folder, rank, world_size, scaling).run()


def held_out(folder):
    records = read_records(Path(folder) / "metrics.jsonl")
    return [{k: v for k, v in r.items() if k.startswith("valid/")} for r in records]


def test_every_objective_and_retrieval_whatever_the_ranks_and_the_sharding(tmp_path):
    make_trainer(tmp_path / "one").run()
    expected = held_out(tmp_path / "one")
    assert len(expected) == 3
    losses = {n.removeprefix("valid/loss/") for n in expected[0] if "/loss/" in n}
    assert losses == {*TASK.objectives, "total"}
    assert {n for n in expected[0] if "/retrieval/" in n} == {
        f"valid/retrieval/{way}_{figure}"
        for way in ("image_to_text", "text_to_image")
        for figure in ("r1", "mrr")
    }
    scalings = {
        "ddp": ScalingConfig(),
        "fsdp2": ScalingConfig(sharding="fsdp2"),
        "parts": ScalingConfig(sharding="fsdp2", micro_batch_size=4),
    }
    for name, scaling in scalings.items():
        run_ranks(run_rank, 2, str(tmp_path / name), scaling)
        # Before the first step; the steps themselves round differently.
        assert held_out(tmp_path / name)[0] == pytest.approx(expected[0], rel=2e-5), name
        assert held_out(tmp_path / name)[2] == pytest.approx(expected[2], rel=1e-2), name


def test_what_is_measured_is_what_the_task_says_of_all_rows(tmp_path):
    trainer = make_trainer(tmp_path)
    found = trainer.validation.run()
    task = trainer.setup.task
    with torch.no_grad():
        whole = task("image", make_batch("image", 24, seed=77))["mim"]
        assert found["valid/loss/mim"] == pytest.approx(float(whole.sum / whole.count), rel=1e-5)
        batch = make_batch("pair", 24, seed=77)
        _, rows = task.with_rows("pair", batch)
    assert torch.equal(rows["contrastive/keys"], pair_keys(batch["ids"]))
    expected = task.measure("pair", rows)
    assert {k: found[f"valid/{k}"] for k in expected} == pytest.approx(expected)


def test_retrieval_leaves_out_the_same_meaning_and_shares_ties():
    eye = torch.eye(4)
    keys = torch.arange(4)[:, None]
    assert set(retrieval(eye, eye, keys).values()) == {1.0}
    flat = torch.ones(4, 4) / 2
    collapsed = retrieval(flat, flat, keys)
    assert collapsed["image_to_text_r1"] == 0.25
    assert collapsed["text_to_image_mrr"] == pytest.approx(1 / 2.5)
    text = eye[[0, 2, 1, 3]]  # two pairs have each other's text
    assert retrieval(eye, text, keys)["image_to_text_r1"] == 0.5
    same = torch.tensor([0, 1, 1, 3])[:, None]
    # The other of the same meaning does not count against them; the rest is level with them.
    assert retrieval(eye, text, same)["image_to_text_r1"] == pytest.approx((2 + 2 / 3) / 4)
