"""What experiments fix beforehand: docstrings agree with it, and a run's plan holds."""

import importlib
import json
from pathlib import Path

import pytest
from toy_experiment import LOG, experiment

from experiments import flava, objectives, records
from experiments.design import Design
from experiments.run import ExperimentOptions, plan_of, run, sweep_of
from momo_platform.stages import UserError
from momo_platform.sweeps.rows import read_results


@pytest.mark.parametrize("name", records.RECORDS)
def test_docstring_and_declaration_agree(name):
    module = importlib.import_module(f"experiments.{name}")
    design, doc = module.EXPERIMENT.design, " ".join(module.__doc__.split())
    assert design.in_words() in doc
    arms = module.EXPERIMENT.arms(module.EXPERIMENT.base("hour"))
    assert tuple(arms)[1:] == design.comparisons
    assert set(module.EXPERIMENT.on_request) <= set(design.comparisons)
    assert (design.margin is None) == ("within a margin of" not in doc)


def test_a_margin_is_above_nothing():
    with pytest.raises(ValueError, match="margin=0"):
        Design(("a",), margin=0.0)


def _options(tmp_path, **more):
    return ExperimentOptions(storage=str(tmp_path / "runs"), verbose=True, **more)


def _plan(tmp_path, name="toy-hour"):
    return json.loads((tmp_path / "runs" / "sweeps" / name / "plan.json").read_text())


def test_seeds_are_fixed_before_the_first_trial_and_never_added(tmp_path, ray_local, capsys):
    toy = experiment(tmp_path)
    assert run(toy, _options(tmp_path), []) == 0
    plan = _plan(tmp_path)
    assert (plan["seeds"], plan["comparisons"]) == ([0, 1, 2], ["better"])
    assert (plan["metric"], plan["margin"], plan["learning_rates"]) == ("score", 0.01, 1)
    folder = tmp_path / "runs" / "sweeps" / "toy-hour"
    first = next(p for p in folder.rglob("*.json") if p.parent.name == "rows")
    assert (folder / "plan.json").stat().st_mtime < first.stat().st_mtime
    results = read_results(folder / "results.json")
    assert results.plan == plan
    assert [one["arm"] for one in results.comparisons] == ["better"]
    ran = (tmp_path / LOG).read_text()
    for more in ({}, {"fresh": True}, {"plan": True}):
        with pytest.raises(UserError) as refused:
            run(toy, _options(tmp_path, seeds=(0, 1, 2, 3, 4), **more), [])
        assert str(refused.value).endswith(
            "with seeds 0 1 2, and seeds can't be changed once results may have been seen: a run "
            "with seeds 0 1 2 3 4 is a new run, so give it a --name and as many seeds that no run "
            "has had: --seeds 3 4 5 6 7"
        )
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=r"the run toy-hour has had 0 1 2; .* --seeds 3 4 5 6"):
        run(toy, _options(tmp_path, seeds=(0, 1, 2, 9), name="more"), [])
    assert (tmp_path / LOG).read_text() == ran
    assert read_results(folder / "results.json") == results
    # What the remedy says works, and so do the same seeds again.
    assert run(toy, _options(tmp_path, seeds=(3, 4, 5, 6, 7), name="more", plan=True), []) == 0
    assert run(toy, _options(tmp_path, fresh=True), []) == 0
    assert _plan(tmp_path) == plan
    assert "Seeds and comparisons were fixed on " in capsys.readouterr().out


def _begun(tmp_path, name, **plan):
    folder = tmp_path / "runs" / "sweeps" / "toy-hour"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(plan))


def test_a_run_from_before_there_were_plans_takes_no_seeds_either(tmp_path):
    _begun(tmp_path, "sweep.json", seeds=[0, 1, 2], base="x")
    with pytest.raises(UserError, match="--seeds 3 4 5 6"):
        run(experiment(tmp_path), _options(tmp_path, seeds=(0, 1, 2, 3), plan=True), [])


def test_margin_and_comparisons_are_fixed_too(tmp_path):
    plan = {"seeds": [0, 1, 2], "date": "2030-01-01", "comparisons": ["better"]}
    _begun(tmp_path, "plan.json", **plan, margin=0.05, metric="score", learning_rates=1)
    with pytest.raises(UserError, match="planned on 2030-01-01 with other margin: what is"):
        run(experiment(tmp_path), _options(tmp_path, plan=True), [])


def test_only_leaves_the_family_whole():
    few = objectives.EXPERIMENT, ExperimentOptions(only=("without matching",))
    sweep = sweep_of(*few)
    assert list(sweep.arms) == ["all four", "without matching"]
    assert plan_of(few[0], sweep).comparisons == objectives.DESIGN.comparisons
    flava_sweep = sweep_of(flava.EXPERIMENT, ExperimentOptions())
    assert len(plan_of(flava.EXPERIMENT, flava_sweep).comparisons) == 2  # two arms on request


@pytest.mark.parametrize("text", ["", "[]", '{"seeds": 3}'])
def test_a_damaged_plan_is_told(tmp_path, text):
    folder = tmp_path / "runs" / "sweeps" / "toy-hour"
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(text)
    with pytest.raises(UserError, match=r"plan.json can't be read as a run's plan"):
        run(experiment(tmp_path), _options(tmp_path, plan=True), [])


def test_histories_are_of_published_runs():
    history = json.loads(records.HISTORY.read_text(encoding="utf-8"))
    for stem, known in history.items():
        assert (records.RESULTS / f"{stem}.json").is_file(), stem
        arms = json.loads((records.RESULTS / f"{stem}.json").read_text())["definition"]["arms"]
        assert set(known.get("looked_at", ())) <= set(arms)
        assert known["history"].endswith(".")
    assert Path(records.HISTORY).name == "history.json"
