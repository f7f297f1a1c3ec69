"""Plans: the action and the reason of every stage, without Ray or torch."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
from making import make
from rich.console import Console
from toy_stages import Toy, add, chain

from momo_platform.stages import Stage, UserError, make_plan, open_storage, print_plan
from momo_platform.stages.storage.local import LocalFiles


@pytest.fixture
def storage(tmp_path):
    return open_storage(tmp_path / "runs")


def summary(plan):
    return {e.name: (e.action, e.reason) for e in plan.entries}


def test_never_run_then_cached(storage):
    stages = chain(1, 2)
    assert summary(make_plan(stages, storage)) == {
        "s0": ("run", "never run"),
        "s1": ("run", "never run"),
    }
    make(storage, *stages)
    plan = make_plan(stages, storage)
    assert [e.action for e in plan.entries] == ["cached", "cached"]
    assert plan.to_run == ()
    assert "s0 --> s1" in plan.mermaid()


def test_a_changed_field_is_named_and_its_dependants_follow(storage):
    make(storage, *chain(1, 2))
    plan = summary(make_plan(chain(5, 2), storage))
    assert plan["s0"] == ("run", "config.value 1 → 5")
    assert plan["s1"] == ("run", "input s0 changed")
    newer = [dataclasses.replace(chain(1)[0], version=3)]
    assert summary(make_plan(newer, storage))["s0"] == ("run", "version 1 → 3")


def test_missing_short_and_altered_files(storage):
    stages = chain(1)
    make(storage, *stages)
    entry = make_plan(stages, storage)["s0"]
    artifact = storage.artifact("s0", entry.fingerprint)
    file = artifact.path / "sum.json"
    file.write_text("2")
    assert "sum.json was altered" in summary(make_plan(stages, storage))["s0"][1]
    file.write_text("1")  # as it was, at another time: hashed and found equal
    assert summary(make_plan(stages, storage))["s0"][0] == "cached"
    assert storage.problem(artifact.manifest, checksums=True) is None
    file.write_text("1234")
    reason = "output file sum.json has 4 bytes, its manifest says 1"
    assert summary(make_plan(stages, storage))["s0"] == ("run", reason)
    file.unlink()
    assert summary(make_plan(stages, storage))["s0"] == ("run", "output file missing: sum.json")


def test_an_artifact_without_a_whole_manifest_does_not_exist(storage):
    stages = chain(1)
    make(storage, *stages)
    entry = make_plan(stages, storage)["s0"]
    manifest = storage.folder("s0", entry.fingerprint) / "manifest.json"
    text = manifest.read_text()
    for broken in (text[:-10], "{}", json.dumps(json.loads(text) | {"fingerprint": "0" * 12})):
        manifest.write_text(broken)
        assert make_plan(stages, storage)["s0"].action == "run"


def test_resume_names_the_newest_whole_checkpoint(storage):
    stages = chain(1)
    entry = make_plan(stages, storage)["s0"]
    checkpoints = storage.folder("s0", entry.fingerprint) / "checkpoints"
    for step in (100, 400):
        folder = checkpoints / f"step-{step:08d}"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")
    (checkpoints / "step-00000500").mkdir()  # killed while it was written
    assert summary(make_plan(stages, storage))["s0"] == ("resume", "checkpoint at step 400")


def test_an_input_made_again_with_other_content_is_noticed(storage):
    first, second = chain(1, 2)
    make(storage, second)
    plan = make_plan([second], storage, rerun=["s0"])
    assert plan["s0"].reason == "--rerun"
    assert (plan["s1"].action, plan["s1"].reason) == ("cached", "unless s0 comes out different")
    make(storage, first)  # equal content
    assert make_plan([second], storage)["s1"].action == "cached"
    other = Stage("s0", add_more, Toy(1))  # the code changed, not the fingerprint
    make(storage, other)
    assert make_plan([second], storage)["s1"].reason == (
        "input s0 was made again and came out different"
    )


def add_more(config, inputs, context):
    (context.output / "sum.json").write_text("1000")


def test_changed_code_is_told_but_does_not_rerun(storage, tmp_path, monkeypatch):
    package = tmp_path / "toy_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('a plan imports nothing')")
    (package / "encoder.py").write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path)
    stage = Stage("s0", add, Toy(), code=("toy_package.encoder",))
    make(storage, stage)
    assert "code changed" not in make_plan([stage], storage)["s0"].reason
    (package / "encoder.py").write_text("x = 2")
    entry = make_plan([stage], storage)["s0"]
    assert entry.action == "cached"
    assert entry.reason.startswith("code changed since: toy_package/encoder.py")


def test_only_until_and_rerun(storage):
    stages = chain(1, 2, 3)
    with pytest.raises(UserError, match="s1 needs s0, which was never run"):
        make_plan(stages, storage, only=["s1"])
    assert [e.name for e in make_plan(stages, storage, until="s1").entries] == ["s0", "s1"]
    make(storage, stages[0])
    plan = make_plan(stages, storage, only=["s1"])
    assert [e.action for e in plan.entries] == ["cached", "run", "skipped"]
    for options in ({"only": ["x*"]}, {"until": "x"}, {"rerun": ["x"]}):
        with pytest.raises(UserError, match="s0, s1, s2"):
            make_plan(stages, storage, **options)


def test_print_plan_shows_brackets_as_they_are(storage, capsys):
    print_plan(make_plan(chain(1), storage), Console(width=80))
    assert "never run" in capsys.readouterr().out


def test_a_storage_url_is_refused():
    with pytest.raises(UserError, match="use open_storage"):
        LocalFiles("s3://bucket/runs")


def test_planning_loads_neither_ray_nor_torch(tmp_path):
    code = (
        "import sys; from toy_stages import *; from momo_platform.stages import *;"
        f"make_plan(chain(1, 2), open_storage({str(tmp_path)!r}));"
        "import momo_platform.stages.executor, momo_platform.console, momo_platform.cluster;"
        "print({'ray', 'torch', 'numpy'} & set(sys.modules))"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert result.stdout.strip() == "set()", result.stderr


def test_an_interrupted_rerun_goes_on_and_an_unfinished_stage_starts_anew(storage):
    (stage,) = chain(1)
    make(storage, stage)
    folder = storage.folder("s0", make_plan([stage], storage)["s0"].fingerprint)
    assert summary(make_plan([stage], storage, rerun=["s0"]))["s0"] == ("run", "--rerun")
    step = folder / "checkpoints" / "step-00000040"
    step.mkdir(parents=True)
    (step / "manifest.json").write_text("{}")
    expected = ("resume", "--rerun that was interrupted at step 40")
    assert summary(make_plan([stage], storage, rerun=["s0"]))["s0"] == expected
    (folder / "manifest.json").unlink()
    assert summary(make_plan([stage], storage, rerun=["s0"]))["s0"] == ("run", "--rerun")
