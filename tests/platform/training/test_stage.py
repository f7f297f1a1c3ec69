"""A training stage on a real Ray: a worker that gets SIGTERM, a user's mistake."""

import dataclasses
import json
import os
import signal
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from momo_platform.cores import usable_cores
from momo_platform.stages import UserError
from momo_platform.training.config import (
    LoggingConfig,
    OptimizerConfig,
    ScalingConfig,
    ValidationConfig,
)
from momo_platform.training.records import read_records
from momo_platform.training.stage import run_torch_trainer
from momo_platform.training.task import TrainingSetup
from tests.platform.training.toy import ToyLoader, ToyTask, toy_held_out
from tests.platform.training.toy_runs import config


class TakenBackOnce(ToyLoader):
    """The last rank's process gets SIGTERM at step 5 of the first attempt."""

    def __init__(self, *arguments, flag):
        super().__init__(*arguments)
        self.flag = Path(flag)

    def batch(self, step):
        if (
            step == 5
            and self.rank == self.world - 1
            and self.name == "a"
            and not self.flag.exists()
        ):
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGTERM)
        if step == 6 and self.flag.exists():
            import time

            time.sleep(0.5)  # the main thread takes the signal while the loop goes on
        return super().batch(step)


def build_setup(recipe, inputs, train, rank, world_size, cores):
    loaders = {n: TakenBackOnce(n, 12, rank, world_size, flag=recipe) for n in "ab"}
    return TrainingSetup(ToyTask(), loaders, lambda _, folder: (folder / "saved").touch())


def build_measured(recipe, inputs, train, rank, world_size, cores):
    setup = build_setup(recipe, inputs, train, rank, world_size, cores)
    return dataclasses.replace(setup, held_out=toy_held_out({"a": 9, "b": 9}, rank, world_size))


def run(folder, train, messages, builder="build_setup"):
    (folder / "output").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    context = SimpleNamespace(
        output=folder / "output",
        checkpoints=folder / "checkpoints",
        folders=None,
        name="toy",
        fingerprint="0123456789ab",
        progress=lambda message: messages.append(message),
    )
    return run_torch_trainer(
        builder=lambda: getattr(import_module("tests.platform.training.test_stage"), builder),
        recipe=str(folder / "flag"),
        train=train,
        resolve_inputs=dict,
        context=context,
    )


TRAIN = config(12, scaling=ScalingConfig(num_workers=2, threads_per_worker=1))


@pytest.mark.slow
def test_a_worker_with_sigterm_saves_and_the_group_goes_on(tmp_path, ray_local):
    messages = []
    # Rates above which the toy loses again what it learnt: the last model is not the best.
    rates = OptimizerConfig(learning_rate=0.6, warmup_steps=12, final_learning_rate_ratio=1.0)
    logging = LoggingConfig(every_steps=1, checkpoint_every_steps=1000, wandb=True)
    measured = ValidationConfig(every_steps=2)
    train = dataclasses.replace(
        TRAIN, optimizer=rates, logging=logging, validation=measured, keep="best"
    )
    result = run(tmp_path, train, messages, "build_measured")
    assert (tmp_path / "flag").exists()
    assert result["resumed_at_step"] in (6, 7, 8)  # where the signal was seen; nothing was lost
    assert any("restart 1" in m.get("message", "") for m in messages)
    assert (tmp_path / "output" / "saved").exists()
    records = read_records(tmp_path / "output" / "metrics.jsonl")
    assert [r["step"] for r in records] == list(range(13))
    losses = {r["step"]: r["valid/loss/total"] for r in records[1:] if "valid/loss/total" in r}
    assert list(losses) == [2, 4, 6, 8, 10, 12]
    best = min(losses, key=lambda step: losses[step])
    assert best < 12
    assert result["best"] == {"step": best, "value": losses[best]}
    assert (tmp_path / "output" / "last" / "saved").exists()
    assert result["validation"] == {"every_steps": 2, "rows": {"a": 9, "b": 9}}
    assert 0 < result["seconds_validating"] < result["seconds_training"]
    assert list((tmp_path / "output" / "tensorboard").iterdir())
    (offline,) = (tmp_path / "output" / "wandb").iterdir()
    assert offline.name.endswith("-0123456789ab")


def test_without_workers_it_trains_in_this_process_and_gives_the_same(tmp_path, ray_local):
    alone = dataclasses.replace(TRAIN, scaling=dataclasses.replace(TRAIN.scaling, num_workers=0))
    messages = []
    try:
        result = run(tmp_path / "alone", alone, messages)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert result["world_size"] == 1
    assert result["resumed_at_step"] in (6, 7)
    assert any("asked to leave, restart 1" in m.get("message", "") for m in messages)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "flag").touch()  # nobody is asked to leave
    run(tmp_path / "two", TRAIN, [])
    ours, theirs = (
        read_records(tmp_path / name / "output" / "metrics.jsonl") for name in ("alone", "two")
    )
    assert [r["step"] for r in ours] == list(range(1, 13))
    for one, other in zip(ours, theirs, strict=True):
        losses = {k: v for k, v in one.items() if k.startswith("loss/")}
        assert losses == pytest.approx({k: other[k] for k in losses}, rel=1e-4)


def test_what_a_task_can_not_do_is_the_users_error(tmp_path, ray_local):
    scaling = dataclasses.replace(TRAIN.scaling, activation_checkpointing="blocks")
    with pytest.raises(UserError, match="ToyTask can't do activation checkpointing"):
        run(tmp_path, dataclasses.replace(TRAIN, scaling=scaling), [])


class BreaksOnce(ToyLoader):
    """The last rank's device fails at step 5 of the first attempt; the others wait for it."""

    def __init__(self, *arguments, flag):
        super().__init__(*arguments)
        self.flag = Path(flag)

    def batch(self, step):
        if step == 5 and self.rank == self.world - 1 and not self.flag.exists():
            self.flag.touch()
            raise torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered")
        return super().batch(step)


def build_breaking(recipe, inputs, train, rank, world_size, cores):
    loaders = {n: BreaksOnce(n, 12, rank, world_size, flag=recipe) for n in "ab"}
    return TrainingSetup(ToyTask(), loaders, save_weights)


def save_weights(task, folder):
    torch.save(task.state_dict(), folder / "weights.pt")


@pytest.mark.slow
def test_a_broken_device_restarts_the_group_at_the_checkpoint(tmp_path, ray_local):
    train = config(12, 2, scaling=TRAIN.scaling)
    messages = []
    result = run(tmp_path / "broken", train, messages, "build_breaking")
    assert result["resumed_at_step"] == 4
    assert sum("restart" in m.get("message", "") for m in messages) == 1
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "flag").touch()  # nothing breaks
    run(tmp_path / "whole", train, [], "build_breaking")
    broken, whole = (
        torch.load(tmp_path / name / "output" / "weights.pt") for name in ("broken", "whole")
    )
    assert all(torch.equal(broken[name], whole[name]) for name in whole)


class TooLarge(ToyLoader):
    def batch(self, step):
        torch.empty(2**60, dtype=torch.uint8)


def build_too_large(recipe, inputs, train, rank, world_size, cores):
    return TrainingSetup(ToyTask(), {n: TooLarge(n, 12) for n in "ab"}, save_weights)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_too_little_memory_is_the_users_error_and_restarts_nothing(tmp_path, ray_local, workers):
    scaling = dataclasses.replace(TRAIN.scaling, num_workers=workers)
    messages = []
    train = dataclasses.replace(TRAIN, scaling=scaling)
    with pytest.raises(UserError, match="toy: out of memory .*\n.*activation_checkpointing"):
        run(tmp_path, train, messages, "build_too_large")
    assert not any("restart" in m.get("message", "") for m in messages)


def build_reporting(recipe, inputs, train, rank, world_size, cores):
    gloo = torch.distributed.group.WORLD._get_backend(torch.device("cpu"))
    timeout = gloo.options._timeout.total_seconds()
    told = {
        "timeout": timeout,
        "cores": sorted(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "given": cores,
    }
    Path(recipe).with_name(f"told-{rank}").write_text(json.dumps(told))
    loaders = {n: ToyLoader(n, 12, rank, world_size) for n in "ab"}
    return TrainingSetup(ToyTask(), loaders, save_weights)


def test_workers_get_the_time_out_and_share_the_nodes_cores(tmp_path, ray_local):
    scaling = ScalingConfig(num_workers=2, pin_cores=True, collective_timeout_minutes=1.5)
    run(tmp_path, config(2, scaling=scaling), [], "build_reporting")
    first, second = (json.loads((tmp_path / f"told-{rank}").read_text()) for rank in (0, 1))
    assert first["timeout"] == second["timeout"] == 90.0
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        assert sorted(first["cores"] + second["cores"]) == cores
    assert first["threads"] == second["threads"] == max(1, usable_cores() // 2)
    assert first["given"] == second["given"] == max(1, usable_cores() // 2)  # pinned or not


def test_nccl_without_a_gpu_is_refused():
    with pytest.raises(ValueError, match="backend='nccl' needs a GPU"):
        ScalingConfig(backend="nccl")
