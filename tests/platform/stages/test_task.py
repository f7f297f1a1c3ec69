"""One attempt: a folder of its own, the manifest last, leftovers gone."""

import errno
import json

import pytest
from making import make
from toy_stages import Toy, add, chain, fail

from momo_platform.stages import Stage, UserError, fingerprint, open_storage


@pytest.fixture
def storage(tmp_path):
    return open_storage(tmp_path / "runs")


def test_a_failed_attempt_leaves_no_artifact_and_the_next_one_clears_it(storage):
    with pytest.raises(RuntimeError, match="toy failure"):
        make(storage, Stage("a", fail, Toy()))
    digest = fingerprint(Stage("a", fail, Toy()))
    folder = storage.folder("a", digest)
    assert storage.artifact("a", digest) is None
    (dead,) = folder.glob("attempt-*")
    (folder / "checkpoints" / "step-00000001").mkdir()
    make(storage, Stage("a", add, Toy()))
    artifact = storage.artifact("a", digest)
    assert not dead.exists()
    assert sorted(p.name for p in folder.iterdir()) == [artifact.path.name, "manifest.json"]


def test_the_manifest_says_what_there_is(storage):
    _, second = chain(1, 2)
    make(storage, second)
    known = {}
    fingerprint(second, known)
    artifact = storage.artifact("s1", known["s1"])
    assert artifact.metrics == {"sum": 3}
    assert json.loads((artifact.path / "sum.json").read_text()) == 3
    manifest = artifact.manifest
    assert manifest.files["sum.json"]["size"] == 1
    assert manifest.inputs["up"]["fingerprint"] == known["s0"]
    assert manifest.config["value"] == 2
    assert "seconds" not in manifest.config
    assert storage.problem(manifest, checksums=True) is None


def disk_full(config, inputs, context):
    raise OSError(errno.ENOSPC, "No space left on device", str(context.output / "x"))


def test_a_full_disk_says_what_to_do(storage):
    with pytest.raises(UserError, match=r"disk full while stage a .*--storage"):
        make(storage, Stage("a", disk_full, Toy()))


def test_metrics_that_are_not_json_fail_the_stage(storage):
    with pytest.raises(TypeError):
        make(storage, Stage("a", bad_metrics, Toy()))


def bad_metrics(config, inputs, context):
    return {"x": object()}
