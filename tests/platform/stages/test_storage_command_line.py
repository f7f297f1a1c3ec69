"""`python -m momo_platform` over a small storage."""

import json
import os
import shutil
import subprocess
import sys
import time

import pyarrow as pa
import pytest
from making import make
from toy_stages import Toy, add, chain

from momo_platform.data.node_cache import NodeCache
from momo_platform.stages import Stage, UserError, make_plan, open_storage
from momo_platform.stages.command_line import main
from momo_platform.stages.storage.local import LocalFiles


@pytest.fixture
def storage(tmp_path):
    """s0 → s1 → s2, made; then s2 with another config, too."""
    storage = open_storage(tmp_path / "runs")
    stages = chain(1, 2, 3)
    make(storage, stages[-1])
    time.sleep(1.1)  # `created` counts seconds
    make(storage, chain(1, 2, 4)[-1])
    return storage


@pytest.fixture
def run(storage, capsys):
    def run(*arguments):
        code = main([*arguments, "--storage", storage.uri])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def digest_of(storage, *values):
    plan = make_plan(chain(*values)[-1:], storage)
    return {e.name: e.fingerprint for e in plan.entries}


def test_list_says_who_uses_what(run, storage):
    code, out, _ = run("list")
    assert code == 0
    assert "4 artifacts" in out
    rows = json.loads(run("list", "--json")[1])
    users = {r["name"]: r["used_by"] for r in rows}
    assert len(users["s1"]) == 2
    assert users["s2"] == []


def test_show_and_lineage(run, storage, tmp_path):
    old = digest_of(storage, 1, 2, 3)
    code, out, _ = run("show", f"s2/{old['s2'][:6]}")
    assert code == 0
    for words in (f"s1/{old['s1']}", f"s0/{old['s0']}", '"value": 3', "sum.json"):
        assert words in out
    code, out, _ = run("lineage", "s2", "--json")
    document = json.loads(out)
    assert [a["artifact"].partition("/")[0] for a in document["artifacts"]] == ["s0", "s1", "s2"]
    manifest = storage.manifest("s0", old["s0"])
    assert document["files"] == [
        {
            "sha256": manifest.files["sum.json"]["sha256"],
            "path": f"s0/{old['s0']}/sum.json",
        }
    ]
    elsewhere = tmp_path / "copied model"
    elsewhere.mkdir()
    (elsewhere / "config.json").write_text(json.dumps({"artifact": f"s2/{old['s2']}"}))
    assert json.loads(run("lineage", str(elsewhere), "--json")[1])["files"] == document["files"]
    inside = storage.artifact("s2", old["s2"]).path / "sum.json"
    assert old["s2"] in run("show", str(inside))[1]


def test_diff_names_fields_and_files(run, storage):
    old, new = digest_of(storage, 1, 2, 3), digest_of(storage, 1, 2, 4)
    code, out, _ = run("diff", old["s2"], new["s2"])
    assert code == 0
    assert "config.value 3 → 4" in out
    assert "sum.json" in out
    assert "no difference" in run("diff", "s0", "s0")[1]


def test_verify_finds_an_altered_file_that_kept_its_size_and_time(run, storage):
    assert run("verify")[1] == "4 of 4 artifacts are whole\n"
    artifact = storage.artifact("s0", digest_of(storage, 1)["s0"])
    file = artifact.path / "sum.json"
    status = file.stat()
    file.write_text("9")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(SystemExit) as ended:
        run("verify")
    assert ended.value.code == 1


def test_gc_never_takes_what_a_kept_artifact_depends_on(run, storage):
    old, new = digest_of(storage, 1, 2, 3), digest_of(storage, 1, 2, 4)
    other = chain(7)[0]  # a newer s0, so that the old one is not among the newest
    time.sleep(1.1)
    make(storage, other)
    code, out, _ = run("gc", "--keep-last", "1", "--dry-run")
    assert code == 0
    assert f"would delete s2/{old['s2']}" in out
    assert "s0/" not in out
    assert storage.manifest("s2", old["s2"]) is not None
    assert f"deleted s2/{old['s2']}" in run("gc", "--keep-last", "1")[1]
    assert storage.manifest("s2", old["s2"]) is None
    plan = make_plan([chain(1, 2, 4)[-1]], storage)
    assert [e.action for e in plan.entries] == ["cached"] * 3
    assert run("gc", "--keep-last", "0")[0] == 2
    assert new["s2"] in run("list")[1]


def test_gc_keeps_what_latest_points_to(run, storage):
    old = digest_of(storage, 1, 2, 3)
    (storage.local_root / "latest").symlink_to(storage.artifact("s2", old["s2"]).path)
    assert "deleted" not in run("gc", "--keep-last", "1")[1]


def test_graph_as_mermaid_and_svg(run, storage):
    mermaid = run("graph", "s2")[1]
    assert mermaid.count("-->") == 2
    svg = run("graph", "--form", "svg")[1]
    assert svg.count("<rect") == 4
    assert svg.count("<path") == 3


def test_mistakes_are_one_line(run, storage, capsys):
    code, _, err = run("show", "nothing")
    assert (code, err.count("\n")) == (2, 1)
    assert "s0, s1, s2" in err
    assert main(["list", "--storage", "/does/not/exist"]) == 2
    assert "--storage /does/not/exist" in capsys.readouterr().err
    two = Stage("s2", add, Toy(5))
    make(storage, two)
    shutil.rmtree(storage.folder("s0", digest_of(storage, 1)["s0"]))
    assert "no longer there" in run("show", digest_of(storage, 1, 2)["s1"])[1]


def test_it_runs_as_a_module(storage):
    command = [sys.executable, "-m", "momo_platform", "list", "--storage", storage.uri]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert "4 artifacts" in done.stdout


@pytest.mark.parametrize("uri", ["", " ", "file://"])
def test_an_empty_storage_is_a_mistake_and_not_the_current_folder(uri, capsys):
    assert main(["list", "--storage", uri]) == 2
    assert "--storage is empty" in capsys.readouterr().err
    with pytest.raises(UserError, match="--storage is empty"):
        open_storage(uri)


@pytest.mark.parametrize("below", ["", "runs"])
def test_a_file_in_the_place_of_a_storage_is_told_when_it_is_opened_as_when_it_is_made(
    below, tmp_path
):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError) as made:
        LocalFiles(file / below).create()
    with pytest.raises(UserError) as opened:
        open_storage(file / below)
    assert str(opened.value) == str(made.value)


def test_of_many_names_some_are_told(run, storage):
    for number in range(12):
        make(storage, Stage(f"many{number}", add, Toy(5)))
    code, _, err = run("show", "nothing")
    assert code == 2
    assert "; it has many0, many1, many10" in err
    assert err.endswith(" and 3 more\n")


@pytest.mark.parametrize("goes", [False, True])
def test_gc_shows_the_rows_that_were_fetched_and_frees_old_ones(run, tmp_path, monkeypatch, goes):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    batch = pa.record_batch({"row": list(range(100))})
    cache = NodeCache("corpus")
    cache.batch("group", lambda: batch)
    (file,) = (tmp_path / "cache").rglob("*.arrow*")
    if goes:
        os.utime(file, (time.time() - 90_000,) * 2)
    said = f"{file.parent}: rows that were fetched from a bucket"
    command = ["gc", "--unfinished-days", "1"]
    out = run(*command, "--dry-run")[1]
    assert (f"would delete {said}" if goes else f"kept {said}") in out
    assert file.exists()
    assert (f"deleted {said}" if goes else f"kept {said}") in run(*command)[1]
    assert file.exists() != goes
    assert cache.batch("group", lambda: batch).equals(batch)  # a process that still reads
    assert file.exists()
