"""TensorBoard, W&B and MLflow of a run that is killed and started again: real files, real kills."""

import multiprocessing
import os
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from momo_platform.stages import UserError
from momo_platform.training.config import LoggingConfig, ValidationConfig
from momo_platform.training.records import RunLog, read_records
from momo_platform.training.trackers import RunIdentity, keep_files, open_trackers
from tests.platform.training.toy import ToyLoader
from tests.platform.training.toy_runs import config, make_trainer

FINGERPRINT = "a1b2c3d4e5f6"
TRAIN = replace(
    config(30, validation=ValidationConfig(every_steps=5)),
    logging=LoggingConfig(every_steps=2, checkpoint_every_steps=8, wandb=True, mlflow=True),
)
IDENTITY = RunIdentity("stage1-image", FINGERPRINT, TRAIN)


class Slow(ToyLoader):
    def batch(self, step):
        time.sleep(0.03)
        return super().batch(step)


def train_on(folder):
    torch.set_num_threads(1)
    os.environ.update(WANDB_MODE="offline", MLFLOW_TRACKING_URI="")
    trainer = make_trainer(0, 1, folder, TRAIN, Slow, held_out={"a": 20}, identity=IDENTITY)
    trainer.run()
    left = [p.name() for p in psutil.Process().children(recursive=True)]
    assert not [name for name in left if "wandb" in name], left


def points(folder):
    """TensorBoard's name → the steps of its points, in all event files together."""
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return {tag: [p.step for p in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


@pytest.mark.slow
def test_killed_and_started_again_it_is_one_run_without_a_gap_or_a_double_point(tmp_path):
    folder, output = tmp_path / "checkpoints", tmp_path / "output"
    output.mkdir()
    start = multiprocessing.get_context("spawn").Process
    first = start(target=train_on, args=(folder,))
    first.start()
    records = folder / "metrics.jsonl"
    while max((r["step"] for r in read_records(records)), default=0) < 14:
        assert first.is_alive()
        time.sleep(0.05)
    helpers = psutil.Process(first.pid).children(recursive=True)
    first.kill()  # SIGKILL, between two checkpoints
    first.join()
    psutil.wait_procs(helpers, timeout=30)
    second = start(target=train_on, args=(folder,))
    second.start()
    second.join()
    assert second.exitcode == 0
    assert not [p for p in helpers if p.is_running()]  # no service outlives its run

    keep_files(folder, output)
    logged = read_records(records)
    steps = [r["step"] for r in logged]
    assert steps == sorted({0, *range(2, 31, 2), *range(5, 31, 5)})
    assert [r["step"] for r in logged if "valid/loss/a" in r] == list(range(0, 31, 5))
    expected = {
        name: [r["step"] for r in logged if r.get(name) is not None]
        for name in {key for r in logged for key in r} - {"step"}
    }
    assert points(output / "tensorboard") == expected

    (offline,) = (output / "wandb").iterdir()
    assert offline.name.endswith(f"-{FINGERPRINT}")
    assert (offline / f"run-{FINGERPRINT}.wandb").stat().st_size > 1000

    with sqlite3.connect(output / "mlflow" / "mlflow.db") as database:
        ((run, status),) = database.execute("select run_uuid, status from runs").fetchall()
        tag = "select value from tags where key = 'momo.fingerprint' and run_uuid = ?"
        assert database.execute(tag, (run,)).fetchone() == (FINGERPRINT,)
        found = database.execute("select key, step from metrics order by step").fetchall()
        rates = database.execute("select value from params where key = 'optimizer.learning_rate'")
        assert rates.fetchone() == ("0.01",)
    assert status == "FINISHED"
    by_name = {name: [s for n, s in found if n == name] for name in expected}
    assert by_name == expected


def test_a_server_of_mlflow_goes_on_with_what_was_cut_off_and_not_with_what_ended(
    tmp_path, monkeypatch
):
    store = tmp_path / "elsewhere.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    wanted = LoggingConfig(tensorboard=False, mlflow=True, group="demo")
    for attempt, failed in enumerate((True, False, False)):
        first = 2 * (attempt == 1)  # the second goes on; the third is the same stage made again
        log = RunLog(tmp_path / str(attempt), first, wanted, IDENTITY)
        for step in range(first, 4):
            log.write(step + 1, {"loss/a": float(step)})
        log.close(failed=failed)
    with sqlite3.connect(store) as database:
        runs = database.execute("select status from runs").fetchall()
        steps = database.execute("select run_uuid, step from metrics").fetchall()
        groups = database.execute("select value from tags where key = 'group'").fetchall()
    assert runs == [("FINISHED",)] * 2
    assert sorted(step for _, step in steps) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert len(set(steps)) == 8
    assert groups == [("demo",)] * 2


def test_a_tracker_that_fails_costs_one_warning_and_no_step(tmp_path, monkeypatch):
    from tensorboardX import SummaryWriter

    def fails(*_):
        raise OSError("no room left")

    monkeypatch.setattr(SummaryWriter, "add_scalar", fails)
    warnings = []
    log = RunLog(tmp_path, 0, LoggingConfig(), IDENTITY, warnings.append)
    for step in range(3):
        log.write(step, {"loss/a": 1.0, "loss/b": float("nan")})
    log.close()
    assert warnings == ["TensorBoard has not all records of this run (OSError: no room left)"]
    assert [r["step"] for r in read_records(tmp_path / "metrics.jsonl")] == [0, 1, 2]
    assert read_records(tmp_path / "metrics.jsonl")[0]["loss/b"] is None


@pytest.mark.parametrize("name, package", [("mlflow", "mlflow-skinny"), ("wandb", "wandb")])
def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch, name, package):
    import importlib

    def missing(module, *_):
        raise ModuleNotFoundError(module)

    monkeypatch.setattr(importlib, "import_module", missing)
    wanted = LoggingConfig(tensorboard=False, wandb=name == "wandb", mlflow=name == "mlflow")
    with pytest.raises(UserError, match=f"logging.{name}: {package} is not installed: `pip"):
        open_trackers(tmp_path, [], wanted, IDENTITY)


def test_what_the_trackers_left_goes_to_the_artifact_without_links(tmp_path):
    offline = tmp_path / "from" / "wandb" / "offline-run-1"
    offline.mkdir(parents=True)
    (offline / "run.wandb").write_text("x")
    (offline / "debug.log").symlink_to(offline / "run.wandb")
    (offline.parent / "latest-run").symlink_to(offline)
    (tmp_path / "to").mkdir()
    keep_files(tmp_path / "from", tmp_path / "to")
    found = {str(p.relative_to(tmp_path / "to")) for p in Path(tmp_path / "to").rglob("*")}
    assert found == {"wandb", "wandb/offline-run-1", "wandb/offline-run-1/run.wandb"}
