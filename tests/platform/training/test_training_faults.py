"""Bad batches, full disks, machines taken back, kills: real processes."""

import json
import multiprocessing
import os
import random
import signal
import time

import pytest
import torch

from momo_platform.stages import UserError
from momo_platform.training import interrupt
from momo_platform.training.checkpoint import newest_checkpoint
from momo_platform.training.config import ScalingConfig
from momo_platform.training.interrupt import TrainingInterrupted
from momo_platform.training.records import SKIPPED_FILE_NAME, read_records
from tests.platform.training.toy import ToyLoader, ToyTask
from tests.platform.training.toy_runs import (
    assert_same_bits,
    config,
    make_trainer,
    weights,
)
from tests.ranks import run_ranks


class OneNan(ToyLoader):
    """A row of modality b at step 3 is not a number; it is in the global batch's second half."""

    def batch(self, step):
        batch = super().batch(step)
        if self.name == "b" and step == 3 and self.rank == self.world - 1:
            batch["x"][-1] = float("nan")
        return batch


def train_with_nan(rank, world_size, folder, sharding):
    train = config(8, scaling=ScalingConfig(sharding=sharding))
    trainer = make_trainer(rank, world_size, folder, train, OneNan)
    trainer.run()
    assert trainer.skipped == 1


@pytest.mark.parametrize(
    "world_size, positions, sharding",
    [(1, [36, 48], "ddp"), (2, [42, 48], "ddp"), (2, [42, 48], "fsdp2")],
)
def test_a_bad_batch_is_skipped_counted_and_named(tmp_path, world_size, positions, sharding):
    run_ranks(train_with_nan, world_size, str(tmp_path), sharding)
    (skipped,) = read_records(tmp_path / SKIPPED_FILE_NAME)
    assert skipped == {"step": 4, "what": "loss", "samples": {"b": [positions]}}
    records = read_records(tmp_path / "metrics.jsonl")
    assert [r["skipped_steps"] for r in records] == [0, 0, 0, 1, 1, 1, 1, 1]


def test_a_bad_batch_is_told_and_counted_by_uses_under_alternate(tmp_path, caplog):
    messages = []
    train = config(12, gradient_schedule="alternate")
    trainer = make_trainer(0, 1, tmp_path, train, OneNan, progress=messages.append)
    trainer.run()
    told = [m["message"] for m in messages if "message" in m]
    assert len(told) == 1
    assert "samples by modality {'b': [[36, 48]]}" in told[0]  # b's fourth batch, whatever step
    assert told[0] in caplog.text


class WideTask(ToyTask):
    """Its checkpoint has 2.4 MB."""

    def __init__(self):
        super().__init__()
        self.wide = torch.nn.Parameter(torch.zeros(200_000))


def test_a_full_disk_stops_with_the_last_checkpoint_whole(small_disk, tmp_path):
    train = config(12, checkpoint_every=4)
    ballast = small_disk / "ballast"

    class FillsTheDisk(ToyLoader):
        def batch(self, step):
            if step == 6 and self.name == "a":
                ballast.write_bytes(b"x" * (2 * 2**20))
            return super().batch(step)

    trainer = make_trainer(0, 1, small_disk / "run", train, FillsTheDisk, WideTask)
    with pytest.raises(UserError, match=r"disk full while training run .*goes on at step 4"):
        trainer.run()
    assert newest_checkpoint(small_disk / "run")[0] == 4  # type: ignore[index]
    assert len(list((small_disk / "run").glob("step-*"))) == 1  # no half of a checkpoint
    ballast.unlink()
    # Room for one checkpoint more at a time; the first is removed as the second is whole.
    again = config(12, checkpoint_every=12)
    resumed = make_trainer(0, 1, small_disk / "run", again, task=WideTask)
    assert resumed.start_step == 4
    resumed.run()
    whole = make_trainer(0, 1, tmp_path / "whole", train, task=WideTask)
    whole.run()
    assert_same_bits(weights(resumed), weights(whole))


class TakenBack(ToyLoader):
    """The machine of the last rank gets SIGTERM while step 5 is read."""

    def batch(self, step):
        if step == 5 and self.rank == self.world - 1 and self.name == "a":
            os.kill(os.getpid(), signal.SIGTERM)
        return super().batch(step)


def train_taken_back(rank, world_size, folder):
    interrupt.install()
    trainer = make_trainer(rank, world_size, folder, config(12), TakenBack)
    with pytest.raises(TrainingInterrupted, match="step 6"):
        trainer.run()
    assert newest_checkpoint(trainer.folder)[0] == 6


def train_to_the_end(rank, world_size, folder, start):
    trainer = make_trainer(rank, world_size, folder, config(12))
    assert trainer.start_step == start
    trainer.run()
    torch.save(weights(trainer), f"{folder}/weights-{rank}.pt")


@pytest.mark.parametrize("world_size", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_sigterm_saves_the_step_on_all_ranks_and_the_next_run_goes_on(tmp_path, world_size):
    run_ranks(train_taken_back, world_size, str(tmp_path / "cut"))
    run_ranks(train_to_the_end, world_size, str(tmp_path / "cut"), 6)
    run_ranks(train_to_the_end, world_size, str(tmp_path / "whole"), 0)
    for rank in range(world_size):
        cut, whole = (torch.load(tmp_path / n / f"weights-{rank}.pt") for n in ("cut", "whole"))
        assert_same_bits(cut, whole)


class Slow(ToyLoader):
    def batch(self, step):
        time.sleep(0.003)
        return super().batch(step)


KILLED = config(40, 1, ema_decay=0.9)


def train_until_killed(folder, started):
    torch.set_num_threads(1)
    trainer = make_trainer(0, 1, folder, KILLED, Slow, WideTask)
    started.set()
    trainer.run()


@pytest.mark.slow
def test_kills_while_checkpoints_are_written_never_lead_to_a_wrong_resume(tmp_path):
    """A checkpoint a step: most of the time one is being written."""
    seed = int(os.environ.get("MOMO_TEST_SEED", "20261125"))
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    whole = make_trainer(0, 1, tmp_path / "whole", KILLED, task=WideTask)
    whole.run()
    resumed_at = []
    for number in range(6):
        folder = tmp_path / f"cut{number}"
        generator = random.Random(seed + number)
        for _ in range(2):  # the second is killed in a resumed run
            started = processes.Event()
            process = processes.Process(target=train_until_killed, args=(folder, started))
            process.start()
            assert started.wait(60)
            time.sleep(generator.uniform(0.0, 0.15))
            process.kill()
            process.join()
        resumed = make_trainer(0, 1, folder, KILLED, task=WideTask)
        resumed_at.append(resumed.start_step)
        resumed.run()
        steps_logged = [r["step"] for r in read_records(folder / "metrics.jsonl")]
        assert steps_logged == list(range(1, KILLED.steps + 1)), (seed, number)
        assert_same_bits(weights(resumed), weights(whole))
        assert resumed.average.snapshot().keys() == whole.average.snapshot().keys()
        assert_same_bits(resumed.average.snapshot(), whole.average.snapshot())
    assert len(set(resumed_at)) > 2, json.dumps(resumed_at)
