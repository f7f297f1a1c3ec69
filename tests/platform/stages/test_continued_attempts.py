"""Attempts that go on where one was interrupted, and files that tasks write to the storage."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from making import make
from toy_stages import Toy, add

from momo_platform.stages import Stage, StageFailed, fingerprint, make_plan, open_storage
from momo_platform.stages.command_line import main
from momo_platform.stages.executor import execute
from momo_platform.stages.manifest import sha256_of

SHARDS = 4


def shards(config, inputs, context):
    """Each shard is written to the storage and then told of in a record among the parts; it ends
    after `value` new ones as if the machine had died."""
    made = 0
    for number in range(SHARDS):
        name, record = f"shards/{number}", f"records/{number}.json"
        if context.parts.size(record) is None:
            if made == config.value:
                (context.output / "half").write_text("by the driver")
                context.output_place.write("valid/index.json", b"by the code of then")
                raise KeyboardInterrupt
            content = bytes([number]) * 1000
            context.output_place.write(name, content)
            facts = {"size": 1000, "sha256": hashlib.sha256(content).hexdigest()}
            context.parts.write(record, json.dumps(facts).encode())
            made += 1
        context.made(name, **json.loads(context.parts.read(record)))
    (context.output / "index.json").write_text("{}")
    return {"made": made, "attempt": context.attempt}


def stage(value=SHARDS, *, continues=True):
    """`interrupted` gives one of another `value` the same fingerprint."""
    return Stage("shards", shards, Toy(value), continues=continues)


def interrupted(storage, monkeypatch, after):
    """The stage's digest, made until it was interrupted after some shards."""
    whole = stage()
    digest = fingerprint(whole)
    monkeypatch.setattr("making.fingerprint", lambda *_: digest)
    with pytest.raises(KeyboardInterrupt):
        make(storage, stage(after))
    return digest


def there(storage, digest):
    return sorted(e.name for e in storage.files.entries(f"shards/{digest}") if e.size is None)


def test_a_continued_attempt_makes_only_what_is_missing(storage, monkeypatch):
    digest = interrupted(storage, monkeypatch, after=3)
    attempt = storage.unfinished_attempt("shards", digest)
    assert storage.manifest("shards", digest) is None
    make(storage, stage())
    artifact = storage.artifact("shards", digest)
    # On a store it is the same folder; else one where no process of before writes.
    assert (artifact.manifest.attempt == attempt) != storage.is_local
    attempt = artifact.manifest.attempt
    assert artifact.metrics == {"made": 1, "attempt": attempt}
    names = ["index.json", *(f"shards/{number}" for number in range(SHARDS))]
    assert sorted(artifact.manifest.files) == names
    assert artifact.place.names() == names  # what nothing tells of is not there any more
    assert artifact.place.read("shards/2") == artifact.read("shards/2") == b"\2" * 1000
    assert storage.problem(artifact.manifest, checksums=True) is None
    assert there(storage, digest) == [attempt]  # parts are gone
    assert storage.unfinished_attempt("shards", digest) is None


KILLED = """
import os, signal, sys
import making
from test_continued_attempts import stage
from momo_platform.stages import fingerprint, open_storage
from momo_platform.stages.storage.artifacts import Storage
digest = fingerprint(stage())
making.fingerprint = lambda *_: digest
Storage.abandon = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
making.make(open_storage(sys.argv[1]), stage(3))
"""


def test_what_a_killed_process_left_is_gone_on_with(storage):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", KILLED, storage.uri], env=environment)
    assert done.returncode == -signal.SIGKILL
    make(storage, stage())
    (manifest,) = storage.others("shards")
    assert manifest.metrics == {"made": 1, "attempt": manifest.attempt}
    assert storage.problem(manifest, checksums=True) is None


def test_told_files_are_neither_read_nor_brought_again(storage, monkeypatch):
    hashed = []

    def noted(path):
        hashed.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr("momo_platform.stages.manifest.sha256_of", noted)
    make(storage, stage())
    assert not {str(number) for number in range(SHARDS)} & set(hashed)
    (manifest,) = storage.others("shards")
    assert all(("mtime_ns" in f) == storage.is_local for f in manifest.files.values())
    hashed.clear()
    assert storage.problem(manifest) is None
    assert not hashed  # the times of change are those on the disk


def test_an_artifact_with_told_files_is_fetched_whole_when_its_folder_is_asked_for(storage):
    make(storage, stage())
    (manifest,) = storage.others("shards")
    artifact = storage.artifact("shards", manifest.fingerprint)
    files = [p for p in artifact.path.rglob("*") if p.is_file()]
    assert len(files) == SHARDS + 1
    assert (artifact.path / "shards" / "3").read_bytes() == b"\3" * 1000


def test_files_that_were_told_of_and_are_not_there_make_no_artifact(storage):
    def lost(config, inputs, context):
        context.made("shards/0", size=7, sha256="0" * 64)

    def short(config, inputs, context):
        context.output_place.write("shards/0", b"short")
        context.made("shards/0", size=7, sha256="0" * 64)

    for run, said in ((lost, "it is not there"), (short, "it has 5")):
        with pytest.raises(RuntimeError, match=f"shards/0 was to have 7 bytes; {said}"):
            make(storage, Stage("told", run, Toy()))
    assert storage.others("told") == []


def test_a_stage_that_does_not_continue_begins_anew(storage, monkeypatch):
    digest = interrupted(storage, monkeypatch, after=2)
    before = storage.unfinished_attempt("shards", digest)
    workspace = storage.begin("shards", digest)
    assert workspace.attempt != before
    assert before not in there(storage, digest)
    storage.abandon(workspace)


@pytest.mark.parametrize("how", ["rerun", "no parts"])
def test_what_is_forgotten_is_made_again(storage, monkeypatch, how):
    digest = interrupted(storage, monkeypatch, after=2)
    before = storage.unfinished_attempt("shards", digest)
    if how == "rerun":
        storage.drop_checkpoints("shards", digest)
    else:
        storage.files.remove(f"shards/{digest}/parts")
    make(storage, stage())
    metrics = storage.artifact("shards", digest).metrics
    assert metrics["made"] == SHARDS
    assert metrics["attempt"] != before
    assert there(storage, digest) == [metrics["attempt"]]


def test_a_finished_attempt_is_not_written_to_again(storage, monkeypatch):
    """Its driver was killed after the manifest was there and before the parts were gone."""
    with monkeypatch.context() as patch:
        patch.setattr(type(storage), "_clear", lambda *_: None)
        make(storage, stage())
    (manifest,) = storage.others("shards")
    digest = manifest.fingerprint
    assert "parts" in there(storage, digest)
    storage.files.remove(f"shards/{digest}/{manifest.attempt}/shards/1")
    assert storage.problem(manifest) == "output file missing: shards/1"
    make(storage, stage())
    again = storage.artifact("shards", digest)
    assert again.metrics["made"] == SHARDS
    assert again.manifest.attempt != manifest.attempt
    assert storage.problem(again.manifest, checksums=True) is None


def test_what_dead_writers_left_half_goes_and_is_no_output(tmp_path, monkeypatch):
    storage = open_storage(tmp_path / "runs")
    digest = interrupted(storage, monkeypatch, after=2)
    attempt = storage.unfinished_attempt("shards", digest)
    folder = storage.folder("shards", digest)
    halves = [folder / attempt / "shards" / ".2.12345678.tmp", folder / "parts" / ".x.1.tmp"]
    for half in halves:
        half.write_bytes(b"half")
    workspace = storage.begin("shards", digest, continues=True)
    assert workspace.goes_on
    assert not list(folder.rglob("*.tmp"))
    (workspace.output / "shards" / ".3.12345678.tmp").write_bytes(b"by a process about to end")
    assert storage.describe(workspace) == {}  # nothing is told of, nothing was written
    facts = {"size": 1000, "sha256": hashlib.sha256(b"\1" * 1000).hexdigest()}
    workspace.made["shards/1"] = facts
    (workspace.output / "half").write_text("by the driver")  # again, with the same content
    assert sorted(storage.describe(workspace)) == ["half", "shards/1"]


def test_the_plan_says_that_a_stage_goes_on_and_whether_the_code_changed(storage, monkeypatch):
    digest = interrupted(storage, monkeypatch, after=2)
    begun = f"shards/{digest}/checkpoints/begun.json"
    reason = "parts of an interrupted attempt"
    entry = make_plan([stage()], storage)["shards"]
    assert (entry.action, entry.reason) == ("resume", reason)
    assert make_plan([stage()], storage, rerun=["shards"])["shards"].reason == "--rerun"
    assert make_plan([stage(continues=False)], storage)["shards"].action == "run"
    document = json.loads(storage.files.get(begun) or b"")
    document["starts"][0]["code"]["another.py"] = "0"
    storage.files.put(begun, json.dumps(document))
    assert make_plan([stage()], storage)["shards"].reason == (
        f"{reason}; code changed since: another.py (--rerun shards to begin anew)"
    )
    with pytest.raises(KeyboardInterrupt):
        make(storage, stage(1))  # with the code of now, which is not what made the first parts
    assert "another.py" in make_plan([stage()], storage)["shards"].reason
    make(storage, stage())
    rerun = storage.begin("shards", digest, continues=True)
    storage.abandon(rerun)
    entry = make_plan([stage()], storage, rerun=["shards"])["shards"]
    assert entry.action == "resume"
    assert entry.reason.startswith("--rerun that was interrupted")
    assert make_plan([stage()], storage)["shards"].action == "cached"


@pytest.mark.parametrize("days, goes", [("3", False), ("0", True)])
def test_gc_frees_old_parts_and_keeps_what_younger_ones_were_made_from(storage, capsys, days, goes):
    old, new = (Stage("s0", add, Toy(value)) for value in (1, 2))
    make(storage, old)
    with pytest.raises(KeyboardInterrupt):
        make(storage, Stage("shards", shards, Toy(2), {"up": old}, continues=True))
    time.sleep(1.1)  # `created` is in whole seconds
    make(storage, new)
    assert main(["list", "--storage", storage.uri]) == 0
    assert "parts of an unfinished attempt" in capsys.readouterr().out
    command = ["gc", "--storage", storage.uri, "--keep-last", "1", "--unfinished-days", days]
    assert main(command) == 0
    assert (f"deleted s0/{fingerprint(old)}" in capsys.readouterr().out) == goes
    assert (storage.files.below("shards") == []) == goes
    assert (storage.manifest("s0", fingerprint(old)) is None) == goes
    assert storage.manifest("s0", fingerprint(new)) is not None


def write_shard(output, parts, number):
    """In a Ray task: a shard, and its record."""
    content = bytes([number]) * 1000
    output.write(f"shards/{number}", content)
    facts = {"size": 1000, "sha256": hashlib.sha256(content).hexdigest()}
    parts.write(f"{number}.json", json.dumps(facts).encode())


def spread(config, inputs, context):
    """By Ray tasks; it fails while there are no parts of an attempt before."""
    import ray

    before = context.parts.names()
    write = ray.remote(num_cpus=0)(write_shard)
    ray.get([write.remote(context.output_place, context.parts, n) for n in range(2 + len(before))])
    if not before:
        raise ValueError("not yet")
    for name in context.parts.names():
        facts = json.loads(context.parts.read(name))
        context.made(f"shards/{name.removesuffix('.json')}", **facts)
    return {"before": before, "attempt": context.attempt}


def test_ray_tasks_write_to_the_storage_and_the_next_run_goes_on(ray_local, tmp_path):
    storage = open_storage(tmp_path / "runs")
    target = Stage("spread", spread, Toy(), continues=True)
    with pytest.raises(StageFailed, match="not yet"):
        execute(make_plan([target], storage), storage)
    plan = make_plan([target], storage)
    assert plan["spread"].action == "resume"
    artifact = execute(plan, storage)["spread"]
    attempt = artifact.manifest.attempt
    assert artifact.metrics == {"before": ["0.json", "1.json"], "attempt": attempt}
    assert sorted(artifact.manifest.files) == [f"shards/{number}" for number in range(4)]
    assert storage.problem(artifact.manifest, checksums=True) is None
    plan = make_plan([target], storage, rerun=["spread"])
    with pytest.raises(StageFailed, match="not yet"):  # nothing of before is left
        execute(plan, storage)


def test_continuing_is_no_part_of_the_fingerprint(tmp_path):
    assert fingerprint(stage()) == fingerprint(stage(continues=False))
    with pytest.raises(ValueError, match="two different stages are named 'shards'"):
        make_plan([stage(), stage(continues=False)], open_storage(tmp_path))
