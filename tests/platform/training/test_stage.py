"""A training stage on a real Ray: a worker that gets SIGTERM, a user's mistake."""

import dataclasses
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from momo_platform.stages import UserError
from momo_platform.training.config import ScalingConfig
from momo_platform.training.records import read_records
from momo_platform.training.stage import first_worker_error, peer_is_gone, run_torch_trainer
from momo_platform.training.task import TrainingSetup
from tests.platform.training.toy import ToyLoader, ToyTask
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


def build_setup(recipe, inputs, train, rank, world_size):
    loaders = {n: TakenBackOnce(n, 12, rank, world_size, flag=recipe) for n in "ab"}
    return TrainingSetup(ToyTask(), loaders, lambda _, folder: (folder / "saved").touch())


def run(folder, train, messages):
    (folder / "output").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    context = SimpleNamespace(
        output=folder / "output",
        checkpoints=folder / "checkpoints",
        folders=None,
        name="toy",
        progress=lambda message: messages.append(message),
    )
    return run_torch_trainer(
        builder="tests.platform.training.test_stage:build_setup",
        recipe=str(folder / "flag"),
        train=train,
        resolve_inputs=dict,
        context=context,
    )


TRAIN = config(12, scaling=ScalingConfig(num_workers=2, threads_per_worker=1))


def test_a_worker_with_sigterm_saves_and_the_group_goes_on(tmp_path, ray_local):
    messages = []
    result = run(tmp_path, TRAIN, messages)
    assert (tmp_path / "flag").exists()
    assert result["resumed_at_step"] in (6, 7, 8)  # where the signal was seen; nothing was lost
    assert any("restart 1" in m.get("message", "") for m in messages)
    assert (tmp_path / "output" / "saved").exists()
    records = read_records(tmp_path / "output" / "metrics.jsonl")
    assert [r["step"] for r in records] == list(range(1, 13))


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


class _Wrapped(Exception):
    """As Ray Train wraps a worker's error."""

    def __init__(self, base):
        super().__init__(str(base))
        self._base_exc = base


class _Failed(Exception):
    def __init__(self, **failures):
        self.worker_failures = {int(rank.removeprefix("rank")): e for rank, e in failures.items()}


GLOO = "[gloo/transport/tcp/pair.cc:545] Read error [10.0.0.2]:26029: Connection reset by peer."


@pytest.mark.parametrize(
    "error, gone",
    [
        (RuntimeError(GLOO), True),
        (_Wrapped(RuntimeError(GLOO)), True),
        (type("DistBackendError", (RuntimeError,), {})("remote process exited or"), True),
        (RuntimeError("shapes do not match"), False),
        (ConnectionResetError("Connection reset by peer"), False),  # of the code's own socket
        (RuntimeError("gloo: invalid shape"), False),
    ],
)
def test_a_worker_that_lost_its_peer_is_told_from_one_that_failed(error, gone):
    assert peer_is_gone(error) is gone


def test_a_workers_own_error_comes_before_those_of_lost_peers():
    own, peer = _Wrapped(ValueError("bad batch")), _Wrapped(RuntimeError(GLOO))
    assert first_worker_error(_Failed(rank0=peer, rank1=own)) is own
    assert first_worker_error(_Failed(rank0=peer, rank1=peer)) is peer
    assert first_worker_error(own) is own
