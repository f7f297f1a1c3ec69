"""docs/extending/ablation.md, followed literally."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from extending.pages import lay_out

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path):
    (found,) = lay_out("ablation.md", tmp_path)
    assert found.relative_to(tmp_path) == Path("experiments/attention_heads.py")
    return found


def follow(file, *options):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "platform")])
    return subprocess.run(
        [sys.executable, str(file), "--budget", "smoke", *options],
        cwd=file.parent,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )


def test_its_docstring_says_its_design_and_the_plan_shows_its_arms(file):
    spec = importlib.util.spec_from_file_location("attention_heads", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.DESIGN.in_words() in " ".join(module.__doc__.split())
    done = follow(file, "--plan", "--storage", "runs")
    assert done.returncode == 0, done.stderr
    assert "twice the heads" in done.stdout


@pytest.mark.slow
def test_it_runs(file):
    done = follow(file, "--seeds", "0", "--storage", "runs", "--cluster", "local")
    assert done.returncode == 0, done.stderr
    results = file.parent / "runs" / "sweeps" / "attention_heads-smoke" / "results.json"
    rows = json.loads(results.read_text())["rows"]
    assert [row["label"] for row in rows] == ["base", "twice the heads"]
    assert {row["state"] for row in rows} == {"done"}
