"""`--plan` says what training will cost."""

from dataclasses import replace

import pytest
from rich.console import Console

from momo_platform.stages import UserError
from momo_platform.training.config import ScalingConfig
from pipelines.estimates import device_named, estimate_stage, print_estimates
from pipelines.full import main
from pipelines.presets import PRESETS
from pipelines.training import StageRecipe


def recipe(preset: str, stage: str = "stage3-pair", **changes) -> StageRecipe:
    config = PRESETS[preset]()
    training = config.training[stage]
    train = replace(training.train, **changes)
    return StageRecipe(config.model, training.task, train, config.pair_text_length)


def test_samples_and_flops_follow_the_steps():
    one = estimate_stage("stage3-pair", recipe("base"), 128)
    assert one.samples == {"text": 2048 * 100_000, "pair": 4096 * 100_000}
    twice = estimate_stage("stage3-pair", recipe("base", steps=200_000), 128)
    assert twice.flops == 2 * one.flops
    a100, h100 = device_named("a100"), device_named("H100")
    assert one.hours(a100, 0.5) == pytest.approx(2 * one.hours(a100, 1.0))
    assert one.hours(h100, 0.5) < one.hours(a100, 0.5)


def test_alternate_trains_one_modality_a_step():
    both = estimate_stage("stage3-pair", recipe("base"), 128)
    turns = estimate_stage("stage3-pair", recipe("base", gradient_schedule="alternate"), 128)
    assert turns.flops == both.flops / 2
    joint = estimate_stage("stage3-pair", recipe("base", gradient_schedule="joint"), 128)
    assert joint.activation_memory > both.activation_memory == turns.activation_memory


def test_sharding_divides_the_state():
    scaling = replace(recipe("base").train.scaling, sharding="fsdp2")
    ddp = estimate_stage("stage3-pair", recipe("base"), 128)
    sharded = estimate_stage("stage3-pair", recipe("base", scaling=scaling), 128)
    assert sharded.state_memory == pytest.approx(ddp.state_memory / 8)


@pytest.mark.parametrize("preset", ["base", "large"])
@pytest.mark.parametrize("stage", ["stage1-image", "stage2-joint", "stage3-pair"])
def test_full_size_presets_fit_eighty_gigabytes(preset, stage):
    assert estimate_stage(stage, recipe(preset, stage), 128).memory < 0.9 * 80e9


def test_no_hours_for_fp32_or_without_gpus():
    fp32 = estimate_stage("stage3-pair", recipe("base", precision="fp32"), 128)
    cpu = estimate_stage("stage3-pair", recipe("base", scaling=ScalingConfig()), 128)
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
    assert "warning: stage3-pair needs" in shown


@pytest.mark.parametrize("preset", ["base", "large"])
@pytest.mark.parametrize("stage", ["stage1-image", "stage2-joint", "stage3-pair"])
def test_presets_decode_as_fast_as_an_h100_trains(preset, stage):
    one = estimate_stage(stage, recipe(preset, stage), 128)
    slower, faster = (one.readers_needed(device_named(name), 0.4) for name in ("A100", "H100"))
    assert 0 < slower <= faster <= one.readers


def test_too_few_readers_are_warned_of(capsys, tmp_path):
    for name in ("a.png", "a.txt"):
        (tmp_path / name).write_bytes(b"only listed")
    sources = [f"--{kind}.source={tmp_path}" for kind in ("image", "text", "pair")]
    arguments = ["--preset", "base", "--plan", "--gpu", "H100", *sources]
    assert main(arguments) == 0
    assert "warning" not in capsys.readouterr().out
    assert main([*arguments, "--stage1.train.scaling.reader-processes", "2"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "stage1-image would wait for pictures: a device of H100 takes 6,1" in shown
    assert "6,120!" in shown  # in the table too
    assert "--stage1-image.train.scaling.reader-processes 4" in shown
    assert "stage2-joint would wait" not in shown


def test_readers_from_cores_are_those_that_a_worker_reserves(capsys):
    one = estimate_stage("stage1-image", recipe("base", "stage1-image"), 128)
    assert (one.readers, one.from_cores) == (8 - 2, True)
    scaling = replace(recipe("base").train.scaling, cpus_per_worker=4)
    few = estimate_stage("stage1-image", recipe("base", "stage1-image", scaling=scaling), 128)
    print_estimates([few], PRESETS["base"](), device_named("H100"), Console(width=100))
    shown = " ".join(capsys.readouterr().out.split())
    assert "its readers give ≥ 3,800: set --stage1-image.train.scaling.cpus-per-worker 6" in shown


def test_pictures_on_the_device_need_no_readers(capsys):
    stage = estimate_stage("stage1-image", recipe("base", "stage1-image"), 128)
    one = replace(stage, readers=1, pictures_a_reader=None)
    assert one.readers_needed(device_named("H200"), 1.0) == 0
    print_estimates([one], PRESETS["base"](), device_named("H200"), Console(width=100))
    shown = capsys.readouterr().out
    assert "on the device" in shown
    assert "warning" not in shown


def test_what_is_computed_again_is_executed_but_no_model_flop():
    def stage3(what, chunk):
        found = recipe("base")
        scaling = replace(found.train.scaling, activation_checkpointing=what)
        task = replace(found.task, contrastive_chunk=chunk)
        train = replace(found.train, scaling=scaling)
        return estimate_stage("stage3", replace(found, task=task, train=train), 128)

    plain = stage3("none", 0)
    assert plain.executed_flops == plain.flops
    assert stage3("elementwise", 0).executed_flops == plain.flops
    order = [stage3(*one) for one in (("elementwise", 128), ("blocks", 0), ("blocks", 128))]
    assert all(one.flops == plain.flops for one in order)
    executed = [plain.executed_flops, *(one.executed_flops for one in order)]
    assert executed == sorted(set(executed))
    h100 = device_named("H100")
    assert len({one.hours(h100, 0.4) for one in order}) == 1  # MFU counts the model's FLOP


def test_the_plan_fits_a_hundred_columns_and_says_where_a_stage_has_room(capsys):
    config = PRESETS["large"]()
    stage3 = estimate_stage("stage3-pair", recipe("large"), 128)
    large = replace(stage3, activation_memory=90e9)
    a100, console = device_named("A100"), Console(width=100)
    print_estimates([stage3, large], config, a100, console)
    shown = capsys.readouterr().out
    fits = [line.split()[-1] for line in shown.splitlines() if line.startswith("stage3-pair")]
    assert fits[:2] == ["all", "H200"]
    assert max(map(len, shown.splitlines())) <= 100
    assert "needs 96 GB a device, A100 has 80" in " ".join(shown.split())
