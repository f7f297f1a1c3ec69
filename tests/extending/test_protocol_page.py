"""docs/extending/protocol.md, followed."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from extending.evaluating import SHAPE, made, rows, tiny_model
from extending.pages import lay_out
from PIL import Image

from momo_platform.stages import fingerprint
from pipelines.config import EvaluationConfig
from pipelines.evaluation import protocols, tasks
from pipelines.evaluation.baselines import baselines_stage
from pipelines.evaluation.given import given_tasks
from pipelines.evaluation.graph import build_suite
from pipelines.evaluation.scores import summarise
from pipelines.evaluation.untrained import UntrainedConfig, untrained_suite
from pipelines.report.tables import text_table

PAGE = "protocol.md"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The page's file, where it would be."""
    (file,) = lay_out(PAGE, tmp_path)
    monkeypatch.setattr(protocols, "__path__", [*protocols.__path__, str(file.parent)])
    importlib.invalidate_caches()
    yield file
    protocols.protocol_named.cache_clear()
    sys.modules.pop(f"{protocols.__name__}.{file.stem}", None)


def pictures(folder):
    for number, name in enumerate(("dark", "bright")):
        (folder / name).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (12, 10), (200 * number + i, 9, 9)).save(folder / name / f"{i}.png")
    return folder


def test_the_file_alone_measures_data_from_the_command_line(written, tmp_path):
    (task,) = given_tasks([f"mine={pictures(tmp_path / 'p')}:nearest-mean"])
    evaluation = EvaluationConfig()
    tiny = tiny_model(tmp_path)
    suite = build_suite(tiny, "tiny", [task], evaluation, {})
    stage = suite.nodes["mine"]
    assert stage.name == "nearest-mean-given-mine-tiny"
    assert fingerprint(stage, {}) == fingerprint(stage, {})
    result = made(stage, tmp_path / "made").metrics
    assert result["values"]["accuracy"]["value"] == 1.0  # dark from bright
    assert result["values"]["accuracy"]["chance"] == 0.5
    assert (result["n"], result["details"]["validation"]) == (8, 1.0)
    untrained = untrained_suite([task], evaluation, {}, UntrainedConfig(SHAPE, 0), {"model": tiny})
    value = made(untrained.nodes["mine"], tmp_path / "more").metrics["values"]["accuracy"]["value"]
    baselines = baselines_stage([task], evaluation, {}, {})
    found = made(baselines, tmp_path / "made").metrics["tasks"]
    assert found["mine"]["baseline"] == value == 1.0
    summary = summarise([task], {"mine": result}, {}, found)
    row = next(line for line in text_table({"tiny": summary}).splitlines() if "mine" in line)
    assert "raw pixels" in row
    assert summary["tasks"]["mine"]["protocol"] == "nearest_mean"


def test_the_plan_reads_the_file_without_torch_and_ray(written):
    code = (
        "import sys, pipelines.evaluation.protocols as p; p.__path__.append(sys.argv[1]);"
        "assert 'nearest_mean' in {one.name for one in p.protocols()};"
        "sys.exit(bool({'torch', 'ray'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(written.parent)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"}
    assert subprocess.run(command, env=environment, cwd=ROOT).returncode == 0


def test_the_row_is_a_task_of_the_table(written, monkeypatch):
    (row,) = rows(PAGE, "TASKS", vars(tasks))
    monkeypatch.setitem(tasks.TASKS, row.name, row)
    assert tasks.choose(["demo/mnist_mean"]) == (row,)
    assert row.node == "nearest-mean-demo-mnist"
    assert protocols.protocol_named(row.protocol).name == "nearest_mean"


def test_what_it_chooses_does_not_depend_on_the_test_part(written):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(90, 4)) + np.repeat(np.eye(3, 4) * 3, 30, axis=0)
    labels = np.repeat(np.arange(3), 30)
    arrays = {"features": features, "labels": labels, "groups": np.arange(90)}
    arrays["split"] = np.array(["train", "valid", "test"] * 30)
    protocol = protocols.protocol_named("nearest_mean")
    config = protocol.config("accuracy", None, 0)
    found = protocol.measure(config, arrays)
    test = arrays["split"] == "test"
    swapped = protocol.measure(config, {**arrays, "labels": np.where(test, 2 - labels, labels)})
    assert found["details"] == swapped["details"]
    assert found["values"]["accuracy"]["value"] > 0.8 > swapped["values"]["accuracy"]["value"]
