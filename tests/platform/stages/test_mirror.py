"""Folders of training workers on other machines, and a store that is away for a while."""

import errno
import json

import pytest
from toy_stages import Toy, count_steps

from momo_platform.stages import Stage, UserError, make_plan, open_storage
from momo_platform.stages.manifest import sha256_of
from momo_platform.stages.storage import patience as waiting
from momo_platform.stages.storage.folders import SharedFolders
from momo_platform.stages.storage.patience import patiently
from momo_platform.training.trackers import keep_files


def checkpoint(folder, step):
    path = folder / f"step-{step:08d}"
    path.mkdir()
    (path / "model.safetensors").write_bytes(b"w" * step)
    (path / "manifest.json").write_text(json.dumps({"step": step}))


@pytest.fixture
def attempt(s3_environment, request):
    storage = open_storage(f"s3://corpora/{request.node.name[:40]}/runs")
    digest = make_plan([Stage("count", count_steps, Toy(3))], storage)["count"].fingerprint
    return storage, storage.begin("count", digest)


def steps(folder):
    return sorted(p.name for p in folder.glob("step-*"))


def test_what_a_worker_elsewhere_writes_is_kept_and_collected(attempt):
    storage, workspace = attempt
    folders = storage.worker_folders(workspace)
    first = None

    def lost_in_the_middle():
        nonlocal first
        with folders.open(writes=True) as first:
            assert not first.output.is_relative_to(workspace.output.parent)
            checkpoint(first.checkpoints, 1)
            checkpoint(first.checkpoints, 2)
            (first.checkpoints / "metrics.jsonl").write_text("{}\n")
            (first.output / "half").write_text("not to be kept")
            raise RuntimeError("node lost")

    with pytest.raises(RuntimeError, match="node lost"):
        lost_in_the_middle()
    assert storage.newest_checkpoint("count", workspace.fingerprint) == 2
    assert not first.output.exists()
    with folders.open(writes=False) as reader:  # another rank: the newest is enough
        assert steps(reader.checkpoints) == ["step-00000002"]
        (reader.output / "nobody").write_text("reads this")
    with folders.open(writes=True) as second:
        assert steps(second.checkpoints) == ["step-00000001", "step-00000002"]
        assert (second.checkpoints / "metrics.jsonl").read_text() == "{}\n"
        assert not list(second.output.iterdir())
        (second.output / "model").mkdir()
        (second.output / "model" / "weights").write_bytes(b"12")
        for file in ("tensorboard/events", "wandb/offline-run-1/files/config.yaml"):
            (second.checkpoints / file).parent.mkdir(parents=True)
            (second.checkpoints / file).write_text("of a tracker")
        keep_files(second.checkpoints, second.output)
    folders.collect()
    found = [p for p in workspace.output.rglob("*") if p.is_file()]
    assert sorted(p.relative_to(workspace.output).as_posix() for p in found) == [
        "model/weights",
        "tensorboard/events",
        "wandb/offline-run-1/files/config.yaml",
    ]
    storage.abandon(workspace)


def test_a_worker_elsewhere_gets_the_newest_checkpoint_that_is_not_damaged(attempt):
    storage, workspace = attempt
    for step, left in ((1, b"w"), (2, b""), (3, b"wxw"), (4, b"xxxx")):
        checkpoint(workspace.checkpoints, step)
        file = workspace.checkpoints / f"step-{step:08d}" / "model.safetensors"
        facts = {"files": {file.name: step}, "sha256": {file.name: sha256_of(file)}}
        (file.parent / "manifest.json").write_text(json.dumps(facts))
        file.write_bytes(left)
    storage.abandon(workspace)
    assert storage.checkpoints("count", workspace.fingerprint).newest == 4
    folders = storage.worker_folders(workspace)
    with folders.open(writes=False) as reader:
        assert steps(reader.checkpoints) == ["step-00000001"]


def test_a_shared_folder_that_a_machine_does_not_see_is_named(tmp_path):
    folders = SharedFolders(tmp_path / "runs" / "attempt", tmp_path / "checkpoints")
    with (
        pytest.raises(UserError, match=r"attempt is not there on .*--storage"),
        folders.open(writes=True),
    ):
        pass
    folders.output.mkdir(parents=True)
    with folders.open(writes=True) as (output, _):
        assert output == folders.output


@pytest.fixture
def no_pause(monkeypatch):
    monkeypatch.setattr(waiting, "_PAUSE", 0.001)


def failing(times, error):
    calls = []

    def call():
        calls.append(1)
        if len(calls) <= times:
            raise error
        return len(calls)

    return call, calls


AWAY = OSError("When uploading: AWS Error NETWORK_CONNECTION during PutObject: curlCode: 7")


def test_a_store_that_is_away_is_waited_for(no_pause):
    assert patiently(failing(4, AWAY)[0]) == 5


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("NETWORK_CONNECTION"),
        PermissionError("no"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("AWS Error ACCESS_DENIED during PutObject operation"),
        OSError("AWS Error NO_SUCH_BUCKET during PutObject operation"),
    ],
)
def test_what_waiting_can_not_mend_is_told_at_once(no_pause, error):
    call, calls = failing(9, error)
    with pytest.raises(type(error), match=".") as raised:
        patiently(call)
    assert raised.value is error
    assert len(calls) == 1


def test_patience_ends(no_pause, monkeypatch):
    monkeypatch.setenv("MOMO_STORAGE_PATIENCE", "0.05")
    call, calls = failing(10**9, AWAY)
    with pytest.raises(OSError, match="NETWORK_CONNECTION"):
        patiently(call)
    assert len(calls) > 1
