"""Held-out losses while training: fixed, the same for any number of ranks, and no trace left."""

import dataclasses
import math

import pytest
import torch

from momo_platform.stages import UserError
from momo_platform.training.config import OptimizerConfig, ScalingConfig, ValidationConfig
from momo_platform.training.records import read_records
from momo_platform.training.validation import TOTAL
from tests.platform.training.toy import ToyLoader, ToyTask
from tests.platform.training.toy_runs import assert_same_bits, config, make_trainer, weights
from tests.ranks import run_ranks

ROWS = {"a": 31, "b": 3}
EVERY_TWO = ValidationConfig(every_steps=2, rows=31)


class DroppingTask(ToyTask):
    """Draws from torch's own generator while it trains."""

    def forward(self, modality, batch):
        dropped = torch.nn.functional.dropout(batch["x"], 0.5, self.training)
        return super().forward(modality, batch | {"x": dropped})


def held_out(folder):
    return [
        (r["step"], {k: v for k, v in r.items() if k.startswith("valid/")})
        for r in read_records(folder / "metrics.jsonl")
        if TOTAL in r
    ]


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_training_is_the_same_to_the_bit_with_and_without(tmp_path, ema_decay):
    train = config(6, validation=EVERY_TWO, ema_decay=ema_decay)
    torch.manual_seed(3)
    told = []
    measured = make_trainer(
        *(0, 1, tmp_path / "with", train),
        task=DroppingTask,
        held_out=ROWS,
        progress=told.append,
    )
    measured.run()
    torch.manual_seed(3)
    plain = make_trainer(0, 1, tmp_path / "without", train, task=DroppingTask)
    plain.run()
    assert_same_bits(weights(measured), weights(plain))
    assert measured.task.training
    found = held_out(tmp_path / "with")
    assert [step for step, _ in found] == [0, 2, 4, 6]
    assert [m["validation"] for m in told if "validation" in m] == [
        {"step": step} | values for step, values in found
    ]
    assert not held_out(tmp_path / "without")
    assert found[-1][1]["valid/loss/a"] < found[0][1]["valid/loss/a"]
    for step, values in found:
        expected = values["valid/loss/a"] + 0.5 * values["valid/loss/b"]
        assert values[TOTAL] == pytest.approx(expected), step


def test_the_same_weights_have_the_same_losses_every_time_and_averages_their_own(tmp_path):
    train = config(6, validation=EVERY_TWO, ema_decay=0.9)
    trainer = make_trainer(0, 1, tmp_path, train, task=DroppingTask, held_out=ROWS)
    trainer.run()
    last = held_out(tmp_path)[-1][1]
    assert trainer.validation.run() == last
    trainer.finish()  # the weights are the averages now
    trainer.validation._average = None
    assert trainer.validation.run() == last


def run_measured(rank, world_size, folder, sharding, rows):
    train = config(4, validation=EVERY_TWO, scaling=ScalingConfig(sharding=sharding))
    trainer = make_trainer(rank, world_size, folder, train, held_out=rows)
    trainer.run()
    values = [torch.tensor(list(trainer.validation.run().values())) for _ in range(2)]
    assert torch.equal(*values)
    trainer.finish()
    torch.save(weights(trainer), f"{folder}/weights-{rank}.pt")


def test_any_number_of_ranks_finds_the_same_and_no_sharding_minds(tmp_path):
    # One row of b is too few for two ranks: both have it, and it counts once.
    few = {"a": 31, "b": 1}
    runs = {"one": (1, "ddp", few), "two": (2, "ddp", few), "sharded": (2, "fsdp2", few)}
    for name, (world_size, sharding, rows) in runs.items():
        run_ranks(run_measured, world_size, str(tmp_path / name), sharding, rows)
    expected = held_out(tmp_path / "one")
    assert [step for step, _ in expected] == [0, 2, 4]
    for name in ("two", "sharded"):
        for (step, found), (_, alone) in zip(held_out(tmp_path / name), expected, strict=True):
            assert found == pytest.approx(alone, rel=1e-5), (name, step)


def train_sharded(rank, world_size, folder, rows):
    train = config(5, validation=EVERY_TWO, scaling=ScalingConfig(sharding="fsdp2"))
    trainer = make_trainer(rank, world_size, folder, train, held_out=rows)
    trainer.run()
    trainer.finish()
    if not rank:
        torch.save(weights(trainer), f"{folder}/weights.pt")


@pytest.mark.slow
def test_a_sharded_run_is_the_same_to_the_bit_with_and_without(tmp_path):
    for name, rows in (("with", ROWS), ("without", {})):
        run_ranks(train_sharded, 2, str(tmp_path / name), rows)
    first, second = (torch.load(tmp_path / n / "weights.pt") for n in ("with", "without"))
    assert_same_bits(first, second)


class Interrupted(Exception):
    pass


class Failing(ToyLoader):
    def batch(self, step):
        if step == 9 and self.name == "a":
            raise Interrupted
        return super().batch(step)


# Learns, and then loses it again: the best is neither the first nor the last.
BEST = dataclasses.replace(
    config(12, checkpoint_every=6, validation=EVERY_TWO, keep="best", ema_decay=0.5),
    optimizer=OptimizerConfig(learning_rate=0.6, warmup_steps=12, final_learning_rate_ratio=1.0),
)


def test_the_best_checkpoint_is_kept_and_found_again_after_a_resume(tmp_path):
    whole = make_trainer(0, 1, tmp_path / "whole", BEST, held_out=ROWS)
    whole.run()
    losses = {step: values[TOTAL] for step, values in held_out(tmp_path / "whole") if step}
    best = min(losses, key=lambda step: losses[step])
    assert 0 < best < BEST.steps, losses
    assert whole.best.record == {"step": best, "value": losses[best]}
    cut = make_trainer(0, 1, tmp_path / "cut", BEST, Failing, held_out=ROWS)
    with pytest.raises(Interrupted):
        cut.run()
    resumed = make_trainer(0, 1, tmp_path / "cut", BEST, held_out=ROWS)
    assert 0 < resumed.start_step < 10
    resumed.run()
    assert resumed.best.record == whole.best.record
    assert held_out(tmp_path / "cut") == held_out(tmp_path / "whole")
    for trainer in (whole, resumed):
        trainer.finish()
        assert trainer.best.checkpoint is not None
        last = weights(trainer)
        trainer.best.load(trainer.task)
        assert any(not torch.equal(v, last[n]) for n, v in weights(trainer).items())
        trainer.validation._average = None
        assert trainer.validation.run()[TOTAL] == losses[best]
    assert_same_bits(weights(resumed), weights(whole))


def test_the_last_is_the_model_where_it_is_the_best(tmp_path):
    train = dataclasses.replace(BEST, optimizer=config().optimizer)
    trainer = make_trainer(0, 1, tmp_path, train, held_out=ROWS)
    trainer.run()
    assert trainer.best.record["step"] == train.steps
    assert trainer.best.checkpoint is None


def test_losses_that_are_no_numbers_are_never_the_best(tmp_path):
    trainer = make_trainer(0, 1, tmp_path, BEST, held_out=ROWS)
    assert not trainer.best.is_new(2, {TOTAL: math.nan})
    assert trainer.best.is_new(2, {TOTAL: 1.0})
    assert not trainer.best.is_new(4, {TOTAL: math.nan})
    assert not trainer.best.is_new(4, {TOTAL: 1.0})


def test_there_must_be_rows_to_choose_by(tmp_path):
    with pytest.raises(UserError, match="keep=best needs held-out rows"):
        make_trainer(0, 1, tmp_path, BEST)
