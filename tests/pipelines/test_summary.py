"""Averages, deltas and tables of results."""

import json

import pytest

from momo_platform.stages import UserError
from pipelines.evaluation.scores import PUBLISHED, deltas, read_run, summarise
from pipelines.evaluation.tasks import TASKS, choose
from pipelines.report.tables import markdown_table, text_table


def result(metric, value, limit=0, n=400, chance=0.5):
    interval = {"value": value, "low": value - 0.01, "high": value + 0.01, "chance": chance}
    return {
        "values": {metric: interval},
        "n": n,
        "details": {"c": 0.1},
        "seed": 0,
        "limit": limit,
    }


TASK_NAMES = ["glue/sst2", "glue/cola", "image/mnist", "multimodal/vqav2", "demo/matching"]


def summary(sst2=0.9, mnist=0.8):
    results = {
        "glue/sst2": result("accuracy", sst2),
        "image/mnist": result("accuracy", mnist),
        "demo/matching": result("accuracy", 0.7),
        "multimodal/vqav2": {"not_available": "the model lacks pairs"},
    }
    baselines = {"demo/matching": {"baseline": None, "untrained": 0.52, "details": {}}}
    missing = {"glue/cola": "glue/cola not in data"}
    return summarise([TASKS[n] for n in TASK_NAMES], results, missing, baselines)


def test_means_say_what_they_cover_and_diagnostics_enter_none():
    found = summary()
    assert found["groups"] == {"image": 0.8, "text": 0.9, "multimodal": None}
    assert found["covered"] == {"image": [1, 1], "text": [1, 2], "multimodal": [0, 1]}
    assert set(found["not_available"]) == {"glue/cola", "multimodal/vqav2"}
    assert found["tasks"]["demo/matching"]["baseline"] == 0.5
    assert found["tasks"]["demo/matching"]["details"] == {"c": 0.1}
    assert found["tasks"]["demo/matching"]["untrained"] == 0.52
    assert found["tasks"]["glue/sst2"]["untrained"] is None


def test_few_examples_are_told_and_enter_no_mean():
    results = {"glue/sst2": result("accuracy", 0.9, n=99), "glue/rte": result("accuracy", 0.6)}
    tasks = [TASKS["glue/sst2"], TASKS["glue/rte"]]
    found = summarise(tasks, results, {}, {})
    assert found["tasks"]["glue/sst2"]["note"] == "only 99 examples: the figure says little"
    assert found["tasks"]["glue/rte"]["note"] == ""
    assert found["groups"]["text"] == 0.6
    assert found["covered"]["text"] == [1, 2]
    assert deltas(found, {"glue/sst2": 0.1}) == {}
    few = summarise(tasks[:1], results, {}, {})
    assert few["groups"]["text"] is None
    for table in (text_table({"x": few}), markdown_table({"x": few})):
        row = next(line for line in table.splitlines() if "glue/sst2" in line)
        assert "only 99 examples: the figure says little" in row
        assert "enter no mean" in table
        assert "mean, text: " not in table


def test_deltas_are_over_common_tasks():
    found = deltas(summary(), {"glue/sst2": 0.8, "glue/rte": 0.1})
    assert found == {"text": {"delta": pytest.approx(0.1), "tasks": 1}}


def test_limited_runs_are_marked_and_not_compared(tmp_path):
    found = summarise([TASKS["glue/sst2"]], {"glue/sst2": result("accuracy", 0.9, 200)}, {}, {})
    assert deltas(found, PUBLISHED["flava-paper"]) == {}
    assert "A quick look: at most 200 examples" in markdown_table({"x": found})
    assert "at most 200 examples" in text_table({"x": found})
    (tmp_path / "metrics.json").write_text(json.dumps(found))
    assert read_run(str(tmp_path))[1] == {}


def test_tables():
    models = {"ours": summary(), "theirs": summary(sst2=0.7)}
    table = markdown_table(models, {"flava-paper": PUBLISHED["flava-paper"]})
    line = next(x for x in table.splitlines() if x.startswith("| glue/sst2"))
    assert "0.900 (0.890–0.910) | 0.700 (0.690–0.710)" in line
    assert "| **0.900** (1 of 2) | **0.700** (1 of 2) |" in table
    assert "Δ against flava-paper, text |  |  |  | -0.009 (1 common) | -0.209 (1 common) |" in table
    assert "- glue/cola: glue/cola not in data" in table
    assert "| demo/matching | diagnostic | accuracy | 400 |" in table
    assert "| 0.500 | 0.520 | 0.500 chance |" in table
    widths = {x.count("|") for x in table.splitlines() if x.startswith("|")}
    assert len(widths) == 1
    text = text_table(models)
    assert "mean, text: 0.700 (1 of 2 tasks)" in text
    assert "multimodal/vqav2: not available, the model lacks pairs" in text


def test_named_runs(tmp_path):
    folder = tmp_path / "old" / "report"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(summary()))
    for place in (folder.parent, folder, folder / "metrics.json"):
        name, values = read_run(f"then={place}")
        assert name == "then"
        assert values["glue/sst2"] == 0.9
    for place in (folder.parent, folder, folder / "metrics.json"):
        assert read_run(str(place))[0] == "old"
    odd = tmp_path / "lr=0.1"
    folder.parent.rename(odd)
    assert read_run(str(odd))[0] == "lr=0.1"
    odd.rename(folder.parent)
    assert read_run("flava-paper")[1]["multimodal/vqav2"] == 0.728
    with pytest.raises(UserError, match="no metrics.json"):
        read_run("nowhere")
    (folder / "metrics.json").write_text("[]")
    with pytest.raises(UserError, match="not a report's"):
        read_run(str(folder))


def test_published_figures_are_of_known_tasks():
    for values in PUBLISHED.values():
        assert set(values) <= set(TASKS)
    assert len(choose(["*"])) == len(TASKS)
