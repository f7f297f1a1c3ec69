"""Checkpoints whose files are no longer what was written, at the same size or another."""

import dataclasses
import json
import shutil

import pytest
import torch
from ranks import run_ranks
from test_fault_manifests import STAGE, planned
from test_fault_plan import Settings, make

from momo_platform.stages import Stage, make_plan, open_storage
from momo_platform.stages.storage.open import object_storage
from momo_platform.training.config import LoggingConfig, OptimizerConfig, TrainConfig
from momo_platform.training.loop import Trainer
from momo_platform.training.task import TrainingSetup
from tests.platform.training.toy import ToyLoader, ToyTask

CONFIG = TrainConfig(
    steps=12,
    batch_sizes={"a": 12, "b": 12},
    optimizer=OptimizerConfig(learning_rate=0.01, warmup_steps=3),
    logging=LoggingConfig(every_steps=2, checkpoint_every_steps=4, tensorboard=False),
)


def trainer(folder, rank=0, world_size=1, said=None):
    loaders = {n: ToyLoader(n, 12, rank, world_size) for n in "ab"}
    setup = TrainingSetup(ToyTask(), loaders, lambda *_: None)
    progress = (lambda _: None) if said is None else said.append
    return Trainer(setup, CONFIG, folder, rank=rank, progress=progress)


@pytest.fixture
def trained(tmp_path):
    """A run's folder with whole checkpoints of steps 8 and 12, and its weights."""
    whole = trainer(tmp_path / "run")
    whole.run()
    return tmp_path / "run", [p.detach().clone() for p in whole.task.parameters()]


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # of a tensor
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def warnings(said):
    return [m for r in said if "damaged" in (m := r.get("message", ""))]


@pytest.mark.parametrize(
    "file, damage",
    [
        ("state.json", zero),
        ("optimizer.safetensors", zero),
        ("model.safetensors", flip),
        ("model.safetensors", cut),
        ("manifest.json", zero),
    ],
)
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(trained, file, damage, caplog):
    folder, weights = trained
    damage(folder / "step-00000012" / file)
    said = []
    again = trainer(folder, said=said)
    assert again.start_step == 8
    message = f"step 12 is damaged ({file}): going on from step 8"
    assert warnings(said) == [message]
    assert message in caplog.text
    again.run()
    for a, b in zip(weights, again.task.parameters(), strict=True):
        assert torch.equal(a, b)
    assert trainer(folder).start_step == 12


@pytest.mark.parametrize("file", ["state.json", "optimizer.safetensors", "model.safetensors"])
def test_checkpoints_without_checksums_load_where_they_can_be_read(trained, file):
    folder, _ = trained
    for manifest in folder.glob("step-*/manifest.json"):
        document = json.loads(manifest.read_text())
        manifest.write_text(json.dumps({k: v for k, v in document.items() if k != "sha256"}))
    assert trainer(folder).start_step == 12
    zero(folder / "step-00000012" / file)
    assert trainer(folder).start_step == 8


def test_a_run_begins_anew_where_no_checkpoint_is_whole(trained):
    folder, weights = trained
    zero(folder / "step-00000012" / "state.json")
    zero(folder / "step-00000008" / "model.safetensors")
    said = []
    again = trainer(folder, said=said)
    assert again.start_step == 0
    assert warnings(said) == [
        "step 12 is damaged (state.json), step 8 is damaged (model.safetensors): beginning anew"
    ]
    again.run()
    for a, b in zip(weights, again.task.parameters(), strict=True):
        assert torch.equal(a, b)


def note_start(rank, world_size, folder, notes):
    (notes / str(rank)).write_text(str(trainer(folder, rank, world_size).start_step))


def test_all_ranks_go_on_from_the_same_step(trained, tmp_path):
    folder, _ = trained
    flip(folder / "step-00000012" / "optimizer.safetensors")
    run_ranks(note_start, 2, folder, tmp_path)
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == ["8", "8"]


def test_a_damaged_best_checkpoint_is_told_and_the_last_model_kept(trained):
    folder, _ = trained
    said = []
    last = trainer(folder, said=said)
    last.best.record = {"step": 8, "value": 0.5}
    flip(folder / "step-00000008" / "model.safetensors")
    last.finish()
    assert last.best.checkpoint is None
    assert warnings(said) == [
        "step 8, the best, is damaged (model.safetensors): keeping the last model instead"
    ]


def local(folder):
    return open_storage(folder)


def objects(folder):
    """As a bucket: by `pyarrow.fs`."""
    return object_storage(f"file://{folder}")


@pytest.mark.parametrize("opened", [local, objects])
@pytest.mark.parametrize("file, damage", [("manifest.json", cut), ("state.json", cut)])
def test_a_plan_names_damaged_checkpoints(trained, tmp_path, opened, file, damage):
    storage = opened(tmp_path / "runs")
    digest = make_plan([STAGE], storage)["s"].fingerprint
    checkpoints = tmp_path / "runs" / "s" / digest / "checkpoints"
    shutil.copytree(trained[0], checkpoints)
    assert planned(storage) == ("resume", "checkpoint at step 12")
    damage(checkpoints / "step-00000012" / file)
    assert planned(storage) == ("resume", "checkpoint at step 8 (step 12 is damaged)")
    damage(checkpoints / "step-00000008" / file)
    assert planned(storage) == ("run", "never run (its checkpoints are damaged: steps 8, 12)")


def test_a_plan_tells_of_lost_steps_beside_what_changed(trained, tmp_path):
    storage = open_storage(tmp_path / "runs")
    make(storage, dataclasses.replace(STAGE, config=Settings(width=5)))
    stage = Stage("s", STAGE.run, Settings(width=6))
    digest = make_plan([stage], storage)["s"].fingerprint
    step = storage.folder("s", digest) / "checkpoints" / "step-00000012"
    shutil.copytree(trained[0] / "step-00000012", step)
    zero(step / "manifest.json")
    reason = "config.width 5 → 6 (its checkpoints are damaged: step 12)"
    assert planned(storage, stage) == ("run", reason)
    made = make(storage, stage)
    shutil.copytree(trained[0] / "step-00000012", step)
    zero(step / "manifest.json")
    assert made.exists()
    entry = make_plan([stage], storage, rerun=["s"])["s"]
    assert (entry.action, entry.reason) == ("run", "--rerun (its checkpoints are damaged: step 12)")
