"""`--plan` says what training will cost."""

from dataclasses import replace

import pytest

from momo_platform.stages import UserError
from momo_platform.training.config import ScalingConfig
from pipelines.estimates import device_named, estimate_stage
from pipelines.full import main
from pipelines.presets import PRESETS
from pipelines.training import StageRecipe


def recipe(preset: str, stage: str = "stage3", **changes) -> StageRecipe:
    config = PRESETS[preset]()
    training = getattr(config, stage)
    train = replace(training.train, **changes)
    return StageRecipe(config.model, training.task, train, config.pair_text_length)


def test_samples_and_flops_follow_the_steps():
    one = estimate_stage("stage3-pairs", recipe("base"), 128)
    assert one.samples == {"text": 2048 * 100_000, "pair": 4096 * 100_000}
    twice = estimate_stage("stage3-pairs", recipe("base", steps=200_000), 128)
    assert twice.flops == 2 * one.flops
    a100, h100 = device_named("a100"), device_named("H100")
    assert one.hours(a100, 0.5) == pytest.approx(2 * one.hours(a100, 1.0))
    assert one.hours(h100, 0.5) < one.hours(a100, 0.5)


def test_alternate_trains_one_modality_a_step():
    both = estimate_stage("stage3-pairs", recipe("base"), 128)
    turns = estimate_stage("stage3-pairs", recipe("base", gradient_schedule="alternate"), 128)
    assert turns.flops == both.flops / 2
    joint = estimate_stage("stage3-pairs", recipe("base", gradient_schedule="joint"), 128)
    assert joint.activation_memory > both.activation_memory == turns.activation_memory


def test_sharding_divides_the_state():
    scaling = replace(recipe("base").train.scaling, sharding="fsdp2")
    ddp = estimate_stage("stage3-pairs", recipe("base"), 128)
    sharded = estimate_stage("stage3-pairs", recipe("base", scaling=scaling), 128)
    assert sharded.state_memory == pytest.approx(ddp.state_memory * 16 / 20 / 8)


@pytest.mark.parametrize("preset", ["base", "large"])
@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
def test_full_size_presets_fit_eighty_gigabytes(preset, stage):
    assert estimate_stage(stage, recipe(preset, stage), 128).memory < 0.9 * 80e9


def test_no_hours_for_fp32_or_without_gpus():
    fp32 = estimate_stage("stage3-pairs", recipe("base", precision="fp32"), 128)
    cpu = estimate_stage("stage3-pairs", recipe("base", scaling=ScalingConfig()), 128)
    assert fp32.hours(device_named("A100"), 0.4) is cpu.hours(device_named("A100"), 0.4) is None


def test_unknown_gpu_is_an_error_with_the_known_ones():
    with pytest.raises(UserError, match=r"--gpu 'Z9'.*A100"):
        device_named("Z9")


def test_the_plan_shows_the_cost_and_warns_of_too_little_memory(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["--preset", "smoke", "--plan", "--storage", str(tmp_path / "runs")]) == 0
    shown = capsys.readouterr().out
    assert "Cost of training" in shown
    assert "hours" not in shown
    arguments = ["--plan", "--storage", str(tmp_path / "runs"), "--gpu", "L4", "--preset", "smoke"]
    arguments += ["--stage3.train.scaling.gpus-per-worker", "1", "--stage3.train.precision", "bf16"]
    arguments += ["--stage3.train.batch-sizes.pair", "4000000"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "hours on L4" in shown
    assert "warning: stage3-pairs needs" in shown


@pytest.mark.parametrize("preset", ["base", "large"])
@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
def test_presets_decode_as_fast_as_an_a100_trains(preset, stage):
    one = estimate_stage(stage, recipe(preset, stage), 128)
    assert 0 < one.readers_needed(device_named("A100"), 0.35) <= one.readers
    faster = one.readers_needed(device_named("H100"), 0.35)
    assert faster >= one.readers_needed(device_named("A100"), 0.35)


def test_too_few_readers_are_warned_of(capsys, tmp_path):
    for name in ("a.png", "a.txt"):
        (tmp_path / name).write_bytes(b"only listed")
    sources = [f"--{kind}.source={tmp_path}" for kind in ("images", "text", "pairs")]
    assert main(["--preset", "base", "--plan", "--gpu", "H100", *sources]) == 0
    assert "stage1-images would wait for pictures" in " ".join(capsys.readouterr().out.split())
