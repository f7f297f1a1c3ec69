"""docs/extending/task.md, followed."""

import importlib
import sys

import numpy as np
import pytest
from extending.evaluating import made, rows, tiny_model
from extending.pages import lay_out

from momo_platform.stages import UserError
from pipelines.config import EvaluationConfig
from pipelines.evaluation import datasets, loaders, tasks
from pipelines.evaluation.datasets import Roots
from pipelines.evaluation.graph import build_suite
from pipelines.evaluation.loaders import load_items

PAGE = "task.md"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The page's file where it would be, and its rows in the tables."""
    (file,) = lay_out(PAGE, tmp_path)
    monkeypatch.setattr(loaders, "__path__", [*loaders.__path__, str(file.parent)])
    importlib.invalidate_caches()
    for data in rows(PAGE, "DATA_SETS", vars(datasets)):
        monkeypatch.setitem(datasets.DATA_SETS, data.name, data)
    for task in rows(PAGE, "TASKS", vars(tasks)):
        monkeypatch.setitem(tasks.TASKS, task.name, task)
    yield file
    sys.modules.pop(f"{loaders.__name__}.{file.stem}", None)


def shapes(root, arrays=("pictures", "labels", "classes")):
    (root / "shapes").mkdir(parents=True)
    for part, count in (("train", 40), ("test", 20)):
        labels = np.arange(count) % 2
        noise = np.random.default_rng(0).integers(0, 60, (count, 8, 8, 3))
        pictures = (noise + 150 * labels[:, None, None, None]).astype(np.uint8)
        found = {"pictures": pictures, "labels": labels, "classes": np.array(["dark", "bright"])}
        np.savez(root / "shapes" / f"{part}.npz", **{name: found[name] for name in arrays})
    return root


def test_the_rows_and_the_file_are_a_suite_that_runs(written, tmp_path):
    evaluation = EvaluationConfig(data=str(shapes(tmp_path / "data")), learning_rate=3e-3)
    chosen = tasks.choose(["shapes"])
    assert [task.name for task in chosen] == ["shapes/probe", "shapes/tuned", "shapes/zero_shot"]
    suite = build_suite(tiny_model(tmp_path), "tiny", chosen, evaluation, {})
    assert not suite.missing
    known = {}
    results = {n: made(s, tmp_path / "made", known).metrics for n, s in suite.nodes.items()}
    assert results["shapes/probe"]["values"]["accuracy"]["value"] == 1.0
    assert results["shapes/probe"]["n"] == results["shapes/tuned"]["n"] == 20
    assert results["shapes/tuned"]["details"]["best_epoch"] in (1, 2)
    assert results["shapes/zero_shot"]["values"]["accuracy"]["chance"] == 0.5


def test_data_that_are_not_there_say_how_to_get_them(written, tmp_path):
    suite = build_suite(
        tiny_model(tmp_path),
        "tiny",
        tasks.choose(["shapes/probe"]),
        EvaluationConfig(data=str(tmp_path)),
        {},
    )
    assert "shapes/train.npz" in suite.missing["shapes/probe"]
    assert "your own script" in suite.missing["shapes/probe"]
    with pytest.raises(UserError, match=r"train\.npz: no array classes"):
        load_items("shapes", Roots(shapes(tmp_path / "data", ("pictures", "labels"))))


def test_a_row_on_data_that_are_there_is_one_line(written):
    (task,) = tasks.choose(["demo/emoji_knn"])
    assert task.node == "knn-demo-emoji"
    assert task.data_set is datasets.DATA_SETS["demo-emoji"]
