"""Logged metrics are means over all terms of a batch, however workers and parts divide them."""

from pathlib import Path

import pytest
import torch

from momo.config import TaskConfig
from momo.model import build_model
from momo.tasks import MoMoTask
from momo_platform.training.config import LoggingConfig, OptimizerConfig, TrainConfig
from momo_platform.training.loop import Trainer
from momo_platform.training.records import read_records
from momo_platform.training.task import TrainingSetup
from tests.momo.making_batches import CONFIG, make_batch
from tests.platform.training.toy import ToyLoader, ToyLoss, ToyTask
from tests.ranks import run_ranks

LOGGED = LoggingConfig(every_steps=1, checkpoint_every_steps=1000, tensorboard=False)
OPTIMIZER = OptimizerConfig(learning_rate=1e-3, warmup_steps=1)


class Measured(ToyTask):
    """Rows count by their masks: more of them on one worker than on the other."""

    def forward(self, modality, batch):
        used, right = batch["used"], (batch["y"] > 0).float() * batch["used"]
        loss = super().forward(modality, batch)[modality]
        name = f"accuracy_{modality}"
        # Without terms some tasks give a mean of 0, and some give NaN.
        accuracy = right.sum() / (used.sum() if modality == "b" else used.sum().clamp_min(1.0))
        return {modality: ToyLoss(loss.sum, loss.count, {name: accuracy})}

    def tokens(self, modality, batch):
        return int(batch["used"].sum())


class Lopsided(ToyLoader):
    """Of the second half of the rows none counts."""

    def batch(self, step):
        batch = ToyLoader(self.name, self.size).batch(step)
        batch["used"][: self.size // 2] = 1.0
        batch["used"][self.size // 2 :] = 0.0
        rows = slice(self.rank * self.size // self.world, (self.rank + 1) * self.size // self.world)
        return {name: values[rows] for name, values in batch.items()}


class Texts:
    """Texts of unlike lengths: a word is masked of a short one, more of a long one."""

    seconds_waiting = 0.0

    def __init__(self, rank, world_size):
        self.rows = slice(rank * 8 // world_size, (rank + 1) * 8 // world_size)

    def iterate(self, start):
        while True:
            batch = make_batch("text", 8)
            batch["ids"][:4, 2:] = 0
            yield {name: values[self.rows].numpy() for name, values in batch.items()}

    def close(self):
        pass


def train(rank: int, world_size: int, folder: str) -> None:
    ranks = rank, world_size
    toys = dict.fromkeys("ab", 12)
    runs = {
        "even": (Measured(), {n: ToyLoader(n, 12, *ranks) for n in toys}, toys),
        "lopsided": (Measured(), {n: Lopsided(n, 12, *ranks) for n in toys}, toys),
        "words": (
            MoMoTask(build_model(CONFIG, seed=1), TaskConfig(modalities=("text",))),
            {"text": Texts(*ranks)},
            {"text": 8},
        ),
    }
    for name, (task, loaders, sizes) in runs.items():
        if name == "words":
            with torch.no_grad():  # so that words of short texts are guessed otherwise
                task.model.word_head.bias[5:] = torch.linspace(0, 3, CONFIG.vocab_size - 5)
        place = Path(folder) / name
        place.mkdir(exist_ok=True)
        config = TrainConfig(steps=2, batch_sizes=sizes, optimizer=OPTIMIZER, logging=LOGGED)
        setup = TrainingSetup(task, loaders, lambda *_: None)
        Trainer(setup, config, place, rank=rank).run()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    alone, shared = (tmp_path_factory.mktemp(name) for name in ("alone", "shared"))
    train(0, 1, str(alone))
    run_ranks(train, 2, str(shared))
    return alone, shared


@pytest.mark.parametrize("run", ["even", "lopsided", "words"])
def test_two_workers_log_the_metrics_of_one(folders, run):
    ours, theirs = (read_records(folder / run / "metrics.jsonl") for folder in folders)
    assert len(ours) == len(theirs) == 2
    for one, two in zip(ours, theirs, strict=True):
        wanted = {n: v for n, v in one.items() if n.startswith(("metric/", "loss/"))}
        assert any(n.startswith("metric/") for n in wanted)
        assert {n: two[n] for n in wanted} == pytest.approx(wanted, rel=1e-5)


def test_tokens_of_workers_with_unlike_batches_are_added(folders):
    """The rates of one record have the same seconds below them."""
    _, shared = folders
    for record in read_records(shared / "lopsided" / "metrics.jsonl"):
        samples = sum(v for n, v in record.items() if n.startswith("samples_per_second/"))
        assert record["tokens_per_second"] / samples == pytest.approx(12 / 24)  # by the masks
