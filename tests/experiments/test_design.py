"""What experiments fix beforehand: docstrings agree with it, and a run's plan holds."""

import importlib
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments import flava, objectives, records
from experiments.budget import base_config
from experiments.design import Design
from experiments.run import Experiment, ExperimentOptions, plan_of, run, sweep_of
from momo_platform.stages import Stage, UserError
from momo_platform.sweeps import driver, tuning
from momo_platform.sweeps.rows import TrialRow, read_results


@pytest.mark.parametrize("name", records.RECORDS)
def test_docstring_and_declaration_agree(name, monkeypatch):
    module = importlib.import_module(f"experiments.{name}")
    monkeypatch.setattr(module, "compute", lambda *_: 1.0, raising=False)  # takes flava a while
    design, doc = module.EXPERIMENT.design, " ".join(module.__doc__.split())
    assert design.in_words() in doc
    arms = module.EXPERIMENT.arms(module.EXPERIMENT.base("hour"))
    assert tuple(arms)[1:] == design.comparisons
    assert set(module.EXPERIMENT.on_request) <= set(design.comparisons)
    assert (design.margin is None) == ("within a margin of" not in doc)


def test_a_margin_is_above_nothing():
    with pytest.raises(ValueError, match="margin=0"):
        Design(("a",), margin=0.0)


def experiment(**qualities: float) -> Experiment:
    """Its trials are stubs: `stubbed` scores them by their quality."""
    qualities = qualities or {"plain": 0.5, "better": 0.7}
    return Experiment(
        "toy",
        lambda _: {name: {"quality": quality} for name, quality in qualities.items()},
        equal=False,
        show=(),
        base=lambda _: base_config("smoke"),
        design=Design(tuple(qualities)[1:], "score", margin=0.01),
        build=lambda base, history, seed: Stage("toy", lambda *_: {}, history[-1] | {"seed": seed}),
    )


@pytest.fixture
def stubbed(monkeypatch):
    """A driver that runs sweeps without Ray; gives the seeds of each trial that ran, and whether
    the plan was there."""
    ran = []

    def run_trials(sweep, storage, folder, *_):
        ran.append((sweep.seeds, (folder / "plan.json").is_file()))
        return [
            TrialRow(
                name, name, {}, [arm], "done", {str(s): {"score": _score(arm, s)} for s in seeds}
            )
            for seeds in [sweep.seeds]
            for name, arm in sweep.arms.items()
        ]

    monkeypatch.setattr(tuning, "run_trials", run_trials)
    follower = nullcontext(SimpleNamespace(say=lambda _: None))
    monkeypatch.setattr(driver, "Follower", lambda *_, **__: follower)
    monkeypatch.setattr(driver, "_connect", lambda *_: "")
    monkeypatch.setattr(driver, "_concurrency", lambda *_: 1)
    return ran


def _score(arm, seed):
    return arm["quality"] + 0.01 * seed * (1 + arm["quality"])


def _options(tmp_path, **more):
    return ExperimentOptions(storage=str(tmp_path / "runs"), verbose=True, **more)


def _plan(tmp_path, name="toy-hour"):
    return json.loads((tmp_path / "runs" / "sweeps" / name / "plan.json").read_text())


def test_seeds_are_fixed_before_the_first_trial_and_never_added(tmp_path, stubbed, capsys):
    toy = experiment()
    assert run(toy, _options(tmp_path), []) == 0
    assert stubbed == [((0, 1, 2), True)]
    plan = _plan(tmp_path)
    assert (plan["seeds"], plan["comparisons"]) == ([0, 1, 2], ["better"])
    assert (plan["metric"], plan["margin"], plan["learning_rates"]) == ("score", 0.01, 1)
    assert "commit" in plan
    folder = tmp_path / "runs" / "sweeps" / "toy-hour"
    results = read_results(folder / "results.json")
    assert results.plan == plan
    assert [one["arm"] for one in results.comparisons] == ["better"]
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
    judged = r"had seeds 0 1 2 and was judged by another metric.*--seeds 3 4 5"
    with pytest.raises(UserError, match=judged):
        run(toy, _options(tmp_path, metric="other", name="looked"), [])
    assert len(stubbed) == 1
    assert read_results(folder / "results.json") == results
    # What the remedy says works, and so do the same seeds again, also when all is forgotten.
    assert run(toy, _options(tmp_path, seeds=(3, 4, 5, 6, 7), name="more"), []) == 0
    assert _plan(tmp_path, "more")["seeds"] == [3, 4, 5, 6, 7]
    assert run(toy, _options(tmp_path, fresh=True), []) == 0
    assert _plan(tmp_path) == plan
    assert [seeds for seeds, _ in stubbed] == [(0, 1, 2), (3, 4, 5, 6, 7), (0, 1, 2)]
    assert "Seeds and comparisons were fixed on " in capsys.readouterr().out


def test_a_file_of_ones_own_needs_no_design_and_is_planned_all_the_same(tmp_path, stubbed):
    mine = replace(experiment(), design=None, metric="score")
    assert run(mine, _options(tmp_path), []) == 0
    assert (_plan(tmp_path)["comparisons"], _plan(tmp_path)["margin"]) == (["better"], None)
    assert stubbed == [((0, 1, 2), True)]


def test_an_arm_left_out_afterwards_makes_no_smaller_family(tmp_path, stubbed):
    toy = experiment(plain=0.5, better=0.7, worse=0.4)
    assert run(toy, _options(tmp_path), []) == 0
    assert run(toy, _options(tmp_path, only=("better",), fresh=True), []) == 0
    results = read_results(tmp_path / "runs" / "sweeps" / "toy-hour" / "results.json")
    (one,) = results.comparisons
    assert one["adjusted"] == pytest.approx(2 * one["p"])


def _begun(tmp_path, name, **plan):
    folder = tmp_path / "runs" / "sweeps" / "toy-hour"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(plan))


def test_a_run_from_before_there_were_plans_takes_no_seeds_either(tmp_path):
    _begun(tmp_path, "sweep.json", seeds=[0, 1, 2], base="x")
    with pytest.raises(UserError, match="--seeds 3 4 5 6"):
        run(experiment(), _options(tmp_path, seeds=(0, 1, 2, 3), plan=True), [])


def test_margin_and_comparisons_are_fixed_too(tmp_path):
    plan = {"seeds": [0, 1, 2], "date": "2030-01-01", "comparisons": ["better"]}
    _begun(tmp_path, "plan.json", **plan, margin=0.05, metric="score", learning_rates=1)
    with pytest.raises(UserError, match="planned on 2030-01-01 with other margin: what is"):
        run(experiment(), _options(tmp_path, plan=True), [])


def test_only_leaves_the_family_whole(monkeypatch):
    monkeypatch.setattr(flava, "compute", lambda *_: 1.0)
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
        run(experiment(), _options(tmp_path, plan=True), [])


def test_histories_are_of_published_runs():
    history = json.loads(records.HISTORY.read_text(encoding="utf-8"))
    for stem, known in history.items():
        assert (records.RESULTS / f"{stem}.json").is_file(), stem
        arms = json.loads((records.RESULTS / f"{stem}.json").read_text())["definition"]["arms"]
        assert set(known.get("looked_at", ())) <= set(arms)
        assert known["history"].endswith(".")
    assert Path(records.HISTORY).name == "history.json"
