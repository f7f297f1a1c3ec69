"""The experiments' arms, equal compute and fits, without Ray; each at the smoke budget with it."""

import dataclasses
import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from experiments import records
from experiments.budget import STAGES, base_config, equal_compute, training_flops
from experiments.run import ExperimentOptions, run, sweep_of
from experiments.scaling_law import chart, extrapolate, fit
from momo_platform.charts import standalone
from momo_platform.overrides import with_settings
from momo_platform.stages import UserError
from momo_platform.stages.stage import all_stages
from momo_platform.sweeps.rows import read_results
from pipelines.config import SourceOptions, no_sources
from pipelines.trials import command_of

NAMES = (
    *("gradient_schedule", "images_in_stage3", "initialisation", "mask_ratios"),
    *("joint_stage", "modality_weights", "objectives", "prefixes"),
    *("shared_layers", "shared_passes", "training_stages"),
)
HERE = Path(__file__).parents[2] / "experiments"


def experiment(name):
    return importlib.import_module(f"experiments.{name}")


@pytest.mark.parametrize("name", NAMES)
def test_arms_build_and_cost_the_same(name):
    module = experiment(name)
    sweep = sweep_of(module.EXPERIMENT, ExperimentOptions(budget="hour"))
    reference = sum(training_flops(sweep.base.config).values())
    first = next(iter(sweep.arms.values()))
    assert first == {}
    for label, settings in sweep.arms.items():
        target = sweep.build(sweep.base, [settings], 1)
        assert target.name == "scores"
        flops = sum(training_flops(with_settings(sweep.base.config, settings)).values())
        if module.EXPERIMENT.equal:
            assert flops == pytest.approx(reference, rel=0.02), label
    names = [name for name in ("Hypothesis", "Cost:", "Result:") if name not in module.__doc__]
    assert names == []
    assert f"python experiments/{name}.py" in module.__doc__


def test_a_change_in_a_late_stage_leaves_the_early_ones_alone():
    base = base_config("hour")
    settings = equal_compute(base, {"training.stage3-pair.task.matching": 0.0})
    assert settings["training.stage3-pair.train.steps"] > base.training["stage3-pair"].train.steps
    assert not any(name.startswith(("training.stage1", "training.stage2")) for name in settings)
    without = equal_compute(base, {"training.stage1-image.train.steps": 0})
    assert {n.split(".")[1] for n in without} == set(STAGES)


def test_own_sources_are_trained_on_and_scored_by(tmp_path):
    (tmp_path / "pairs.jsonl").write_text('{"image": "a.png", "caption": "a"}\n')
    (tmp_path / "words.txt").write_text("a line of words\n")
    module = experiment("objectives")
    demo, pairs = SourceOptions(source="demo"), SourceOptions(source=str(tmp_path / "pairs.jsonl"))
    options = ExperimentOptions(
        budget="hour", corpora={**no_sources(), "pair": pairs}, metric="tasks/own/retrieval"
    )
    sweep = sweep_of(module.EXPERIMENT, options)
    assert (sweep.name, sweep.metric) == ("objectives-hour-own", "tasks/own/retrieval")
    scores = sweep.build(sweep.base, [{}], 1)
    assert {name.partition("/")[0] for name in scores.config.tasks} == {"own"}
    names = {stage.name for stage in all_stages([scores])}
    assert "prepare-pair" in names
    assert "corpora" not in names
    assert f"--pair.source {tmp_path / 'pairs.jsonl'}" in command_of(sweep.base.config, {})
    mixed = dataclasses.replace(options, corpora={**options.corpora, "image": demo, "text": demo})
    tasks = sweep_of(module.EXPERIMENT, mixed).base.config.evaluation.tasks
    assert {"own/retrieval", "demo/mnist", "demo/movie_sentiment"} <= set(tasks)
    assert not {"demo/image_to_text", "own/labels", "own/masked_words"} & set(tasks)
    named = dataclasses.replace(options, tasks=("demo/mnist",))
    assert sweep_of(module.EXPERIMENT, named).base.config.evaluation.tasks == ("demo/mnist",)
    with pytest.raises(UserError, match="--publish"):
        run(module.EXPERIMENT, dataclasses.replace(options, publish=True), [])


def test_an_unknown_arm_is_told():
    module = experiment("objectives")
    with pytest.raises(UserError, match=r"--only without mtaching: no such arm; there are all"):
        sweep_of(module.EXPERIMENT, ExperimentOptions(only=("without mtaching",)))
    sweep = sweep_of(module.EXPERIMENT, ExperimentOptions(only=("without matching",)))
    assert list(sweep.arms) == ["all four", "without matching"]


def test_some_arms_run_only_when_named(tmp_path, capsys):
    module = experiment("flava")
    options = ExperimentOptions(budget="smoke", plan=True, storage=str(tmp_path / "runs"))
    assert run(module.EXPERIMENT, options, []) == 0
    printed = capsys.readouterr().out
    left = "'MoMo, half rate' 'FLAVA, equal tokens, half rate'"
    assert f"only when named: --only {left}" in printed
    assert "3 trials, seeds [0, 1, 2]" in printed
    named = ExperimentOptions(only=("MoMo, half rate",))
    assert list(sweep_of(module.EXPERIMENT, named).arms) == ["MoMo", "MoMo, half rate"]


def test_a_record_of_real_runs_is_not_replaced(tmp_path, monkeypatch):
    module = importlib.import_module("experiments.run")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(module, "FINDINGS", tmp_path / "findings.md")
    options = ExperimentOptions(budget="smoke", publish=True)
    with pytest.raises(UserError, match="--publish: .* --budget smoke is for tests"):
        run(experiment("objectives").EXPERIMENT, options, [])
    record = HERE / "results" / "objectives-2026-11-27.json"
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "table.md").write_text("table")
    shutil.copyfile(record, tmp_path / "results.json")
    module.publish("objectives", tmp_path, "2026-11-27")
    module.publish("objectives", tmp_path, "2026-11-27")  # the same sweep, run again
    other = json.loads(record.read_text())
    other["definition"]["seeds"] = [0]
    (tmp_path / "results.json").write_text(json.dumps(other))
    (tmp_path / "report" / "table.md").write_text("another")
    with pytest.raises(UserError, match=r"objectives-2026-11-27.json .* other arms, seeds"):
        module.publish("objectives", tmp_path, "2026-11-27")
    assert (tmp_path / "results" / "objectives-2026-11-27.md").read_text() == "table"
    page = (tmp_path / "findings.md").read_text()
    assert "No difference from “all four” was found; the intervals reach from −9.4 to +3.0." in page
    assert page.count("| Not run yet. |") == len(records.RECORDS) - 1
    module.publish("mine", tmp_path, "2026-11-27")
    assert "- mine-2026-11-27: [table]" in (tmp_path / "findings.md").read_text()


def test_a_plan_needs_no_ray(tmp_path, capsys):
    module = experiment("objectives")
    options = ExperimentOptions(budget="smoke", plan=True, storage=str(tmp_path / "runs"))
    assert run(module.EXPERIMENT, options, []) == 0
    printed = capsys.readouterr().out
    assert "without matching" in printed
    assert "stage3-pair.task.matching=0.0" in printed.replace("\n", "")


def test_a_power_law_is_found_and_foretells():
    draw = np.random.default_rng(0)
    sizes = [1e4, 1e5, 1e6, 1e7]
    noise = draw.normal(1.0, 0.01, size=3)
    losses = {s: [5.0 * s**-0.1 * n for n in noise] for s in sizes}
    law = fit(losses)
    assert law.b == pytest.approx(0.1, abs=1e-6)
    assert law.low <= law.b <= law.high
    beyond = extrapolate(losses)
    assert beyond.size == 1e7
    assert beyond.error == pytest.approx(0.0, abs=1e-6)
    assert beyond.low < beyond.predicted < beyond.high
    one = fit({size: values[:1] for size, values in losses.items()})
    assert (one.b, one.low) == (pytest.approx(0.1, abs=1e-6), None)
    three = fit(
        {
            s: [v * s**-shift for v, shift in zip(values, (0, 0.1, 0.2), strict=True)]
            for s, values in losses.items()
        }
    )
    half = 4.302653 * 0.1 / 3**0.5  # Student's t, two degrees of freedom
    assert (three.low, three.high) == (pytest.approx(0.2 - half), pytest.approx(0.2 + half))
    bent = {**losses, 1e7: [2.0] * 3}  # above the law: a floor that it does not know
    assert extrapolate(bent).error < -0.4
    drawn = chart({"t": losses}, {"t": law}, "size", "loss")
    assert "exponent 0.100" in standalone(drawn)
    with pytest.raises(ValueError, match="2 sizes"):
        fit({1.0: [1.0], 2.0: [0.5]})
    with pytest.raises(ValueError, match="above 0"):
        fit({1.0: [1.0], 2.0: [0.5], 3.0: [-0.5]})


def test_the_ladder_has_one_dial():
    module = experiment("model_size")
    base = module.base("hour")
    arms = module.arms((2, 3, 4, 6), base)
    assert next(iter(arms)) == "depth 4"
    assert len(arms) == 7
    sizes = [module.block_parameters(arms[f"depth {d}, equal tokens"]) for d in (2, 3, 6)]
    assert sizes == sorted(sizes)
    level = sum(training_flops(with_settings(base, arms["depth 4"])).values())
    for depth in (2, 3, 6):
        equal = with_settings(base, arms[f"depth {depth}, equal compute"])
        assert sum(training_flops(equal).values()) == pytest.approx(level, rel=0.02)
        assert equal.model.width == 32 * depth
    with pytest.raises(UserError, match="--only: the law needs every size"):
        module._run_and_fit(module.EXPERIMENT, module.SizeOptions(only=("depth 4",)), [])
    with pytest.raises(UserError, match="at least four sizes"):
        module.arms((2, 3), base)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "model_size", "flava", "recipe"])
def test_each_runs_at_the_smoke_budget(name, tmp_path_factory, ray_local):
    """One storage for all: they share the corpora and what else is equal."""
    storage = str(tmp_path_factory.getbasetemp() / "smoke-experiments")
    module = experiment(name)
    if name == "model_size":
        given = ["--budget", "smoke", "--seeds", "0", "--storage", storage]
        assert module.main([*given, "--depth", "1", "2", "3", "4", "--verbose"]) == 0
    else:
        few = dataclasses.replace(module.EXPERIMENT, samples=3)
        options = ExperimentOptions(
            budget="smoke",
            seeds=(0,),
            only=tuple(few.arms(few.base("smoke"))),
            storage=storage,
            verbose=True,
        )
        assert run(few, options, []) == 0
    folder = Path(storage) / "sweeps" / f"{name}-smoke"
    results = read_results(folder / "results.json")
    assert {row.state for row in results.rows} == {"done"}
    assert results.plan == json.loads((folder / "plan.json").read_text())
    assert results.plan["seeds"] == [0]
    assert any(n.startswith("sample/tasks/") for row in results.rows for n in row.seeds["0"])
    assert all(0.0 <= row.values("groups/image")[0] <= 1.0 for row in results.rows)
    assert (folder / "report" / "index.html").stat().st_size > 10_000
    if name == "model_size":
        law = json.loads((folder / "report" / "law.json").read_text())
        assert law["extrapolation"]["measured"] > 0
    if name == "flava":
        sizes = {row.label: row.values("parameters")[0] for row in results.rows}
        theirs = [size for arm, size in sizes.items() if arm.startswith("FLAVA")]
        assert len(theirs) == 3
        assert min(theirs) > sizes["MoMo"]


def test_runs_are_pooled_by_seed_and_a_pair_counts_once(tmp_path, capsys):
    module = importlib.import_module("experiments.pooled")
    record = json.loads((HERE / "results" / "flava-2026-11-26.json").read_text())
    names = []

    def write(name, base, arm, other="b"):
        rows = [{**record["rows"][0], "label": "a", "seeds": base}]
        rows.append({**record["rows"][0], "label": other, "seeds": arm})
        definition = {**record["definition"], "arms": {"a": {}, other: {}}}
        file = tmp_path / name
        file.write_text(json.dumps({**record, "rows": rows, "definition": definition}))
        names.append(str(file))

    base = {"0": {"m": 1.0}, "1": {"m": 2.0}}
    write("one", base, {"0": {"m": 1.5}, "1": {"m": 2.7}})
    write("again", base, {"0": {"m": 1.5}, "1": {"m": 2.7}, "9": {"m": 0.0}})
    write("two", base, {"0": {"m": 1.6}})
    write("three", base, {"1": {"m": 1.0}}, "c")
    assert module.main([*names, "--metrics", "m"]) == 0
    printed = capsys.readouterr().out
    assert "| less a | seeds | pairs | m |" in printed
    assert "| b | 2 | 3 | 0.625 (-0.328 – 1.578), p 0.15 |" in printed  # 0.55 and 0.7, by seed
    assert "| c | 1 | 1 | -1, p – |" in printed
    write("other", base, base)
    Path(names[-1]).write_text(Path(names[-1]).read_text().replace('"a"', '"z"'))
    assert module.main([*names, "--metrics", "m"]) == 2
    assert "first arms a, z: give finished runs of one experiment" in capsys.readouterr().err


def test_options_are_those_of_every_sweep():
    fields = {f.name for f in dataclasses.fields(ExperimentOptions)}
    assert {"resume", "fresh", "concurrency", "optuna", "wandb", "budget", "seeds"} <= fields
