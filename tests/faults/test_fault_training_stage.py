"""A training stage that is killed, whose clock is set back, and that may use few cores."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import shims
import toy_stage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, environment: dict[str, str], cores: set[int] | None = None) -> int:
    paths = [ROOT, ROOT / "platform", ROOT / "tests"]
    done = subprocess.run(
        [sys.executable, toy_stage.__file__, str(folder)],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "WANDB_MODE": "offline"}
        | environment,
        preexec_fn=None if cores is None else lambda: os.sched_setaffinity(0, cores),
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-3000:]
    return done.returncode


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The artifact of a stage that was killed once, on a file system without symbolic links."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "kill").touch()
    without_links = shims.environment(shims.no_symlinks("/wandb/"))
    assert [run(folder, without_links) for _ in range(2)] == [-signal.SIGKILL, 0]
    return folder / "output"


def test_wandb_has_one_run_of_a_stage_and_its_config(killed):
    """Its id is the stage's fingerprint: a restart goes on in it, on a server too."""
    (offline,) = (killed / "wandb").glob("offline-run-*")
    (log,) = offline.glob("*.wandb")
    assert log.name == f"run-{toy_stage.FINGERPRINT}.wandb"
    written = log.read_bytes()
    assert b"colour_of_the_run" in written
    assert b"vermilion" in written


def test_the_artifact_keeps_tensorboards_points_of_the_steps_before_the_kill(killed):
    found = EventAccumulator(str(killed / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    assert [p.step for p in found.Scalars("loss/a")] == list(range(1, toy_stage.STEPS + 1))


@pytest.fixture(scope="module")
def set_back(tmp_path_factory):
    """A stage on one core, whose wall clock goes back an hour in the middle."""
    folder = tmp_path_factory.mktemp("set-back")
    shims.step_clock(folder / "clock", 0.0)
    one = {min(os.sched_getaffinity(0))}
    assert run(folder, shims.environment(clock=folder / "clock"), one) == 0
    return folder


def test_a_clock_set_back_makes_no_negative_seconds(set_back):
    result = json.loads((set_back / "result.json").read_text())
    assert 0.0 < result["seconds_training"] < 600.0
    assert 0.0 <= result["told"]["last_step_at"] - result["told"]["first_step_at"] < 600.0
    lines = (set_back / "output" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [r["step"] for r in records] == list(range(1, toy_stage.STEPS + 1))
    for record in records:
        kept = {n: v for n, v in record.items() if "second" in n}
        assert kept
        assert all(v >= 0.0 for v in kept.values()), kept


def test_a_stage_counts_the_cores_that_it_may_use(set_back):
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one core cannot tell")
    assert json.loads((set_back / "told.json").read_text())["threads"] == 1
