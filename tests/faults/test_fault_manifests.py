"""Manifests and checkpoints that are cut off, unreadable or of another version; folders in a
storage that are no artifacts."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import shims
from test_fault_plan import Settings, make

from momo_platform.stages import Stage, make_plan, open_storage

HERE = Path(__file__).parent


def write(config, inputs, context):
    (context.output / "x").write_text("x" * config.width)


def fail(config, inputs, context):
    raise RuntimeError("the disk failed once more")


def tell(config, inputs, context):
    """No files: what it found is in its metrics."""
    return {"found": Path(config.note).read_text()}


STAGE = Stage("s", write, Settings())


@pytest.fixture
def storage(tmp_path):
    return open_storage(tmp_path / "runs")


def planned(storage, stage=STAGE):
    entry = make_plan([stage], storage)[stage.name]
    return entry.action, entry.reason


def elsewhere(code, *arguments, **more):
    """Python code in a process of its own."""
    paths = os.pathsep.join([str(HERE), *(p for p in sys.path if p)])
    command = [sys.executable, "-c", code, *map(str, arguments)]
    env = os.environ | {"PYTHONPATH": paths} | more
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)


def artifacts(storage, *arguments, cwd=None):
    command = [sys.executable, "-m", "momo_platform", *map(str, arguments)]
    command += ["--storage", storage.uri] if cwd is None else []
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "XDG_CACHE_HOME": f"{storage.local_root}-cache",  # of which `gc` frees something, too
    }
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, cwd=cwd)


PLAN = """
import sys
from test_fault_manifests import STAGE, open_storage, planned
from momo_platform.stages import UserError
try:
    print(*planned(open_storage(sys.argv[1])))
except UserError as error:
    print("error:", error)
"""


def test_a_newer_versions_manifest_with_more_fields_is_no_missing_one(storage):
    manifest = make(storage, STAGE)
    document = json.loads(manifest.read_text()) | {"colour": "red", "shape": {"round": True}}
    manifest.write_text(json.dumps(document))
    assert planned(storage)[0] == "cached"


@pytest.mark.parametrize("error", ["EACCES", "EIO"])
def test_a_manifest_that_cant_be_read_is_not_taken_for_absent(error, storage):
    make(storage, STAGE)
    fault = shims.Fault(("open",), error, "/manifest.json")
    done = elsewhere(PLAN, storage.uri, **shims.environment(fault))
    assert done.returncode == 0, done.stderr
    assert "error:" in done.stdout
    assert "manifest.json: can't be read" in done.stdout


def test_a_manifest_behind_a_stale_handle_is_read_again(storage, tmp_path):
    make(storage, STAGE)
    fault = shims.times(2, ("open",), "ESTALE", "/manifest.json", tmp_path / "stale")
    done = elsewhere(PLAN, storage.uri, **shims.environment(fault))
    assert done.stdout.startswith("cached"), done.stderr
    assert shims.struck(fault) == 2


@pytest.mark.parametrize("left", [0, 100])
def test_a_manifest_cut_off_is_told_and_its_files_stay_until_there_are_new_ones(left, storage):
    manifest = make(storage, STAGE)
    [before] = manifest.parent.glob("attempt-*")
    manifest.write_bytes(manifest.read_bytes()[:left])
    action, reason = planned(storage)
    assert action == "run"
    assert "manifest.json" in reason
    with pytest.raises(RuntimeError, match="once more"):
        make(storage, Stage("s", fail, Settings()))
    assert (before / "x").exists()
    make(storage, STAGE)
    assert not before.exists()
    assert planned(storage)[0] == "cached"


def test_an_output_that_the_disk_does_not_take_is_no_artifact(storage):
    """Before the manifest its files are brought to the disk, where it may turn out that they
    can't be."""
    code = (
        "import sys\n"
        "from test_fault_manifests import STAGE, open_storage, make\n"
        "make(open_storage(sys.argv[1]), STAGE)\n"
    )
    fault = shims.Fault(("sync",), "EIO", "/attempt-")
    done = elsewhere(code, storage.uri, **shims.environment(fault))
    assert done.returncode == 1
    assert "Input/output error" in done.stderr
    assert planned(storage)[0] == "run"


def test_a_checkpoint_with_an_empty_or_cut_off_manifest_is_none(storage):
    entry = make_plan([STAGE], storage)["s"]
    checkpoints = storage.folder("s", entry.fingerprint) / "checkpoints"
    for step, text in ((400, '{"step": 400, "files": {}}'), (600, ""), (800, '{"step": 800, "fi')):
        folder = checkpoints / f"step-{step:08d}"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(text)
    reason = "checkpoint at step 400 (steps 600, 800 are damaged)"
    assert planned(storage) == ("resume", reason)
    from momo_platform.training.checkpoint import newest_checkpoint

    newest = newest_checkpoint(checkpoints)
    assert newest is not None
    assert newest[0] == 400


def test_a_stage_without_files_that_finds_something_else_is_another_input(storage, tmp_path):
    found = tmp_path / "found"
    found.write_text("one")
    first = Stage("first", tell, Settings(note=str(found)))
    second = Stage("second", write, Settings(), {"up": first})
    make(storage, first)
    make(storage, second)
    assert planned(storage, second)[0] == "cached"
    make(storage, first)  # the same again
    assert planned(storage, second)[0] == "cached"
    found.write_text("two")
    make(storage, first)
    assert planned(storage, second) == (
        "run",
        "input first was made again and came out different",
    )


def test_copies_and_strange_folders_in_a_storage_are_no_artifacts(storage):
    old = make(storage, STAGE).parent
    made = int(time.time())
    while int(time.time()) == made:  # manifests count seconds
        time.sleep(0.05)
    new = make(storage, Stage("s", write, Settings(width=3))).parent
    shutil.copytree(new, old.with_name("copy of mine"))
    shutil.copytree(storage.local_root / "s", storage.local_root / "s before")
    shutil.copytree(storage.local_root / "s", storage.local_root / ".snapshot")
    (storage.local_root / "lost+found").mkdir()
    (storage.local_root / ".DS_Store").write_bytes(b"\0")
    (storage.local_root / "s" / ".DS_Store").write_bytes(b"\0")
    (storage.local_root / "s" / "0123456789ab").mkdir()
    (storage.local_root / "s" / "0123456789ab" / "thesis.tex").write_text("mine")
    odd = os.fsdecode(b"s[red]\n\xff")
    os.makedirs(storage.local_root / odd / "0123456789ab" / "attempt-00000000")
    done = artifacts(storage, "list")
    assert done.returncode == 0, done.stderr
    assert "2 artifacts" in done.stdout
    before = {p for p in storage.local_root.rglob("*") if odd not in str(p)}
    done = artifacts(storage, "gc", "--keep-last", "2", "--unfinished-days", "0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("deleted") == 1  # the odd name's, which a dead attempt left
    assert before <= set(storage.local_root.rglob("*"))


def test_gc_deletes_nothing_beside_a_manifest_that_cant_be_read(storage):
    make(storage, STAGE)
    made = int(time.time())
    while int(time.time()) == made:
        time.sleep(0.05)
    make(storage, Stage("s", write, Settings(width=3)))
    unreadable = make(storage, Stage("t", write, Settings()))
    unreadable.unlink()
    unreadable.mkdir()  # as root no mode keeps anybody from reading
    done = artifacts(storage, "gc", "--keep-last", "1")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert str(unreadable) in done.stderr
    assert len(list((storage.local_root / "s").iterdir())) == 2
    done = artifacts(storage, "list")
    assert "2 artifacts" in done.stdout
    assert str(unreadable) in done.stdout


def test_lineage_of_a_path_is_that_of_its_storage_wherever_one_stands(storage, tmp_path):
    first = Stage("first", write, Settings(width=5))
    make(storage, first)
    folder = make(storage, Stage("second", write, Settings(), {"up": first})).parent
    other = tmp_path / "other"
    make(open_storage(other / "runs"), STAGE)
    done = artifacts(storage, "lineage", folder, cwd=other)
    assert done.returncode == 0, done.stderr
    assert "1 corpus files" in done.stdout
    assert artifacts(storage, "verify", folder, cwd=other).stdout == "1 of 1 artifacts are whole\n"


def age(folder):
    """As if nothing in it had changed for a year."""
    past = time.time() - 365 * 86400
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (past, past))


@pytest.mark.parametrize("left", [0, 100])
def test_an_artifact_with_a_damaged_manifest_is_named_and_never_freed(left, storage):
    first = Stage("first", write, Settings())
    damaged = make(storage, first)
    make(storage, Stage("second", write, Settings(), {"up": first}))
    damaged.write_bytes(damaged.read_bytes()[:left])
    age(damaged.parent)
    done = artifacts(storage, "gc", "--unfinished-days", "0")
    assert done.returncode == 0, done.stderr
    assert [f.read_text() for f in damaged.parent.glob("attempt-*/x")] == ["x" * 64]
    assert "damaged manifest" in artifacts(storage, "list").stdout
    for chosen in ((), ("first",), (f"first/{damaged.parent.name}",), (damaged.parent,)):
        done = artifacts(storage, "verify", *chosen)
        assert done.returncode == 1, chosen
        assert f"first/{damaged.parent.name}: manifest.json is" in done.stdout
        assert "--rerun first" in done.stdout
    assert "0 of 1 artifacts are whole" in done.stdout
    assert "manifest.json is" in artifacts(storage, "lineage", "second").stdout


@pytest.mark.parametrize("how", ["EIO", "folder"])
def test_an_artifact_whose_manifest_cant_be_read_is_never_told_as_not_there(how, storage):
    first = Stage("first", write, Settings())
    manifest = make(storage, first)
    make(storage, Stage("second", write, Settings(), {"up": first}))
    shim = {}
    if how == "EIO":
        fault = shims.Fault(("open",), "EIO", f"{manifest.parent.name}/manifest.json")
        shim = shims.environment(fault)
    else:
        manifest.unlink()
        manifest.mkdir()

    def told(code, *arguments):
        command = [sys.executable, "-m", "momo_platform", *arguments, "--storage", storage.uri]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)} | shim
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)
        assert done.returncode == code, done.stdout + done.stderr
        assert "no longer" not in done.stdout
        assert "has no artifact" not in done.stderr
        text = done.stdout + done.stderr
        assert "manifest.json: can't be read" in text.replace("\n", "")
        return text

    assert "1 of 2 artifacts are whole" in told(1, "verify")
    assert "0 of 1 artifacts are whole" in told(1, "verify", "first")
    assert "0 of 1 artifacts are whole" in told(1, "verify", str(manifest.parent))
    told(2, "show", "first")
    told(2, "diff", "first", "second")
    told(0, "lineage", "second")
    assert "1 artifacts" in told(0, "list")


@pytest.mark.parametrize("error", ["EIO", "ESTALE"])
def test_verify_goes_on_after_a_file_that_cant_be_read(error, storage):
    attempts = {}
    for name in ("a", "b", "c"):
        [attempts[name]] = make(storage, Stage(name, write, Settings())).parent.glob("attempt-*")
    (attempts["c"] / "x").write_text("y")
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    env |= shims.environment(shims.Fault(("open",), error, f"{attempts['a'].name}/x"))
    done = subprocess.run(
        [sys.executable, "-m", "momo_platform", "verify", "--storage", storage.uri],
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1, done.stderr
    first, second, last = done.stdout.splitlines()
    assert "can't be read" in first
    assert second.startswith("c/")
    assert last == "1 of 3 artifacts are whole"
