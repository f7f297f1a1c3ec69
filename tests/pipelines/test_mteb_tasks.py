"""`--tasks mteb/NAME`: named without mteb, measured with it."""

import json
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import pytest

from momo_platform.stages import Stage, UserError
from pipelines.evaluation.datasets import locate
from pipelines.evaluation.graph import build_suite
from pipelines.evaluation.mteb_intervals import examples_of
from pipelines.evaluation.mteb_tasks import METRIC, mteb_tasks
from pipelines.evaluation.scores import summarise, verdict
from pipelines.evaluation.tasks import choose
from pipelines.report.cells import CELLS
from pipelines.report.tables import markdown_table, text_table

FILE = Path(__file__).with_name("home_made_mteb.py")


@pytest.fixture
def installed(monkeypatch):
    """As if mteb were."""
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.26")


def test_without_mteb_the_extra_is_named(monkeypatch):
    from importlib.metadata import PackageNotFoundError

    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", absent)
    with pytest.raises(UserError, match=r"mteb/STS12: .*pip install 'momo-ray\[mteb\]'"):
        mteb_tasks(["mteb/STS12"])
    assert mteb_tasks(["demo", "glue/*", "birds=mteb/birds"]) == ()


def test_names_become_tasks_beside_the_tables(installed):
    found = mteb_tasks(["mteb/STS12,mteb/Flickr30kI2TRetrieval", "demo", "mteb/STS12"])
    assert [task.name for task in found] == ["mteb/STS12", "mteb/Flickr30kI2TRetrieval"]
    assert {task.group for task in found} == {"diagnostic"}
    assert found[0].node == "mteb-task-mteb-STS12"
    chosen = choose(["mteb/STS12", "demo/mnist"], given=found[:1])
    assert [task.name for task in chosen] == ["demo/mnist", "mteb/STS12"]
    assert [task.name for task in choose(["mteb/STS12"], given=found[:1])] == ["mteb/STS12"]


@pytest.mark.parametrize(
    "entry, told",
    [
        ("mteb/STS*", "give one task's name"),
        ("mteb/", "give one task's name"),
        ("mteb/nowhere.py:Mine", "no file nowhere.py"),
    ],
)
def test_what_can_not_be_a_task_is_told(installed, entry, told):
    with pytest.raises(UserError, match=told):
        mteb_tasks([entry])


def test_another_mteb_or_another_file_is_another_stage(installed, monkeypatch, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("a = 1")
    entry = f"mteb/{file}:Mine"
    places = [locate(mteb_tasks([entry])[0].data_set, "")]
    file.write_text("a = 2")
    places.append(locate(mteb_tasks([entry])[0].data_set, ""))
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.27")
    places.append(locate(mteb_tasks([entry])[0].data_set, ""))
    assert len({place.digest for place in places}) == 3


def test_each_task_is_a_node_that_a_limit_does_not_change(installed):
    from dataclasses import replace

    from pipelines.given_model import GivenModel, run_given_model

    model = Stage("model-x", run_given_model, GivenModel("abc", "/somewhere"))
    from pipelines.config import EvaluationConfig

    tasks = mteb_tasks(["mteb/STS12", "mteb/STS13"])
    stages = []
    for limit in (0, 7):
        evaluation = replace(EvaluationConfig(), limit=limit)
        suite = build_suite(model, "m", tasks, evaluation, {})
        assert suite.names == {
            "mteb/STS12": "mteb-task-mteb-STS12-m",
            "mteb/STS13": "mteb-task-mteb-STS13-m",
        }
        stages.append([stage.config for stage in suite.nodes.values()])
    assert stages[0] == stages[1]


JUDGED = {
    "queries": ["a", "b", "c"],
    "relevant_docs": {"a": {"x": 1}, "b": {"x": 0, "y": 2, "z": 1}, "c": {"w": 1}},
}


class Ranking:
    """A retrieval task with three queries, as mteb's."""

    class metadata:
        main_score = "ndcg_at_10"

    eval_splits = ("test",)
    dataset = MappingProxyType({"default": {"test": JUDGED}})


FOUND = {
    "mteb_model_meta": {"model_name": "m"},
    "default": {
        "test": {
            "a": {"x": 0.9, "y": 0.1},
            "b": {"z": 0.9, "y": 0.8, "x": 0.1},
            "c": {"x": 0.5, "y": 0.4, "z": 0.3, "w": 0.2},
        }
    },
}
NDCG = [1.0, (1 + 2 / 1.5849625) / (2 + 1 / 1.5849625), 1 / 2.3219281]


def test_an_interval_is_given_for_the_score_that_the_examples_make_up():
    score = sum(NDCG) / 3
    count, bounds = examples_of(Ranking, FOUND, score, 0)
    assert count == 3
    assert bounds is not None
    assert min(NDCG) <= bounds[0] < score < bounds[1] <= 1.0
    assert examples_of(Ranking, FOUND, score - 0.01, 0) == (3, None)  # mteb's is something else
    assert examples_of(Ranking, {}, score, 0) == (3, None)


@pytest.mark.parametrize(
    "main, each",
    [
        ("mrr_at_10", [1, 1, 1 / 4]),
        ("recall_at_1", [1, 1 / 2, 0]),
        ("hit_rate_at_1", [1, 1, 0]),
        ("map_at_10", [1, 1, 1 / 4]),
    ],
)
def test_other_ranked_scores(monkeypatch, main, each):
    monkeypatch.setattr(Ranking.metadata, "main_score", main)
    assert examples_of(Ranking, FOUND, sum(each) / 3, 0)[1] is not None
    assert examples_of(Ranking, FOUND, sum(each) / 3 + 0.01, 0)[1] is None


def test_a_row_without_an_interval_says_so(installed):
    (task,) = mteb_tasks(["mteb/ArxivClusteringS2S"])
    value = {"value": 0.31, "low": None, "high": None, "chance": None}
    values = {METRIC: value, "v_measure": value}
    result = {"values": values, "n": 400, "details": {}, "seed": 0, "limit": 0}
    found = summarise([task], {task.name: result}, {}, {})
    row = found["tasks"][task.name]
    for table in (text_table({"ours": found}), markdown_table({"ours": found})):
        (line,) = [line for line in table.splitlines() if task.name in line]
        assert "0.310" in line
        assert "no interval" in line
    assert (verdict(row), CELLS["mark"](row)) == ("", "")
    assert CELLS["method"](row) == "mteb task, main score"
    assert CELLS["others"](row) == ["v measure 0.310"]


@pytest.mark.slow
def test_home_made_tasks_are_measured_as_mteb_does(tmp_path):
    """By `momo evaluate`, on a model that knows nothing: every kind of task, its interval where
    the task keeps its examples, and the score that mteb itself gives the same vectors."""
    pytest.importorskip("mteb")
    import mteb

    from momo.config import ModelConfig
    from momo.evaluation.mteb_encoder import MtebEncoder
    from momo.export import save
    from momo.model import build_model
    from momo.tokenizer import train_wordpiece

    sys.path.insert(0, str(FILE.parent))
    import home_made_mteb as home

    config = ModelConfig(vocab_size=300, width=32, depth=2, heads=2, embed_dim=24)
    words = train_wordpiece(home.words() * 5, config.vocab_size)
    save(build_model(config), tmp_path / "model", words.to_str(), {"artifact": "toy/1"})
    names = {task.metadata.name: task for task in vars(home).values() if hasattr(task, "metadata")}
    names = {name: task for name, task in names.items() if name.startswith("Home")}
    assert len(names) == 5
    storage = tmp_path / "runs"
    done = subprocess.run(
        [
            *(sys.executable, "pipelines/evaluate.py", "--model", str(tmp_path / "model")),
            *("--storage", str(storage), "--cluster", "local"),
            *("--tasks", *(f"mteb/{FILE}:{name}" for name in names)),
        ],
        cwd=FILE.parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (file,) = storage.glob("comparison/*/**/metrics.json")
    (model,) = json.loads(file.read_text())["models"].values()
    rows = model["tasks"]
    encoder = MtebEncoder(str(tmp_path / "model"), device="cpu")
    for name, kind in names.items():
        row = rows[f"mteb/{name}"]
        (own,) = mteb.evaluate(encoder, kind(), cache=None, show_progress_bar=False).task_results
        assert row["metric"] == METRIC
        assert row["value"] == pytest.approx(own.get_score(), abs=1e-5)
        assert row["n"] == home.COUNT
        if name == "HomeGroups":
            assert row["low"] is None
            assert "no interval" in done.stdout
        else:
            assert row["low"] <= row["value"] <= row["high"]
    assert len(list(storage.glob("mteb-task-*/*/**/mteb-Home*.json"))) == 5
