"""The update of every training stage on a fake CUDA device: it runs, hardly waits, and costs what
`--plan` says."""

import numpy as np
import pytest
import torch
from fake_cuda import MISSING, fake_cuda
from fake_update import STAGES, GPUStage, measure_update, on_gpus

from momo.crop import with_pixels
from momo.regions import plan_crops
from momo_platform.training.feed import to_device, to_tensors

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)
MOST_WAITS = 2


@pytest.mark.parametrize("diagnose", [False, True], ids=["plain", "logged"])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("stage", STAGES)
def test_an_update_hardly_waits_for_the_device(stage, precision, diagnose):
    stage = on_gpus("demo", stage, precision=precision)
    measured = measure_update(stage, diagnose=diagnose, shortest=0.25)
    assert measured.waits.total() <= MOST_WAITS, f"\n{measured}"


def test_chunks_and_checkpointing_make_no_waits():
    stage = on_gpus("demo", "stage3-pair", chunk=16, checkpointing="elementwise")
    measured = measure_update(stage, shortest=0.25)
    assert measured.waits.total() <= MOST_WAITS, f"\n{measured}"


def test_crops_on_the_device_make_no_waits():
    rows, height, width, size = 16, 96, 80, 64
    place = np.array([[row * height * width * 3, height, width, width] for row in range(rows)])
    loaded = {
        "flat": np.zeros(rows * height * width * 3, np.uint8),
        "place": place,
        "box": np.tile(np.array([0, 0, width, height], np.float32), (rows, 1)),
        "flip": np.zeros(rows, bool),
        "crops": plan_crops(place, size),
    }
    with fake_cuda() as record, record.measure() as measured:
        batch = with_pixels(to_device(to_tensors(loaded), torch.device("cuda")), size)
        assert batch["pixels"].device.type == "cuda"
    assert not measured.waits, f"\n{measured}"


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("stage", STAGES)
def test_the_demos_memory_is_what_the_plan_says(stage, precision):
    stage = on_gpus("demo", stage, precision=precision)
    assert stage.plan.memory == pytest.approx(measure_update(stage).peak_bytes, rel=0.1)


@pytest.mark.parametrize(
    ("checkpointing", "chunk"), [("elementwise", 16), ("blocks", 0), ("blocks", 16)]
)
def test_what_is_computed_again_is_what_is_executed_more(checkpointing, chunk):
    once = on_gpus("demo", "stage3-pair", checkpointing="none")
    again = on_gpus("demo", "stage3-pair", checkpointing=checkpointing, chunk=chunk)
    more = (again.plan.executed_flops - once.plan.executed_flops) / again.updates
    counted = measure_update(again).flops - measure_update(once).flops
    assert more == pytest.approx(counted, rel=0.1)  # the last of four blocks makes fewer tokens


def costs_what_the_plan_says(stage: GPUStage) -> None:
    measured, plan = measure_update(stage), stage.plan
    assert measured.flops == pytest.approx(plan.executed_flops / stage.updates, rel=0.05)
    assert plan.memory == pytest.approx(measured.peak_bytes, rel=0.1)


def test_base_on_pairs_costs_what_the_plan_says():
    costs_what_the_plan_says(on_gpus("base", "stage3-pair"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "stage"),
    [(p, s) for p in ("base", "large") for s in STAGES if (p, s) != ("base", "stage3-pair")],
)
def test_presets_cost_what_the_plan_says(preset, stage):
    costs_what_the_plan_says(on_gpus(preset, stage))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("checkpointing", "chunk"),
    [("elementwise", 0), ("elementwise", 128), ("blocks", 128), ("none", 0)],
)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("preset", ["base", "large"])
def test_other_settings_cost_what_the_plan_says(preset, stage, checkpointing, chunk):
    costs_what_the_plan_says(on_gpus(preset, stage, checkpointing=checkpointing, chunk=chunk))
