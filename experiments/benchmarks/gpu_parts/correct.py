"""Whether a GPU computes what a CPU does, and how often a step waits for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch

from experiments.benchmarks.gpu_parts.setting import Cases, Setting
from experiments.benchmarks.gpu_parts.stages import (
    NEVER,
    RandomLoader,
    one_device,
    run_loop,
    stage_of,
)
from experiments.benchmarks.gpu_parts.waits import Waits
from experiments.benchmarks.harness import Row, compare, say
from experiments.benchmarks.updates import DEVICE
from momo.model import build_model
from momo.tasks import MoMoTask
from momo_platform.training.config import Precision

STEPS = 5
_MOST: Mapping[Precision, float] = {"fp32": 1e-3, "bf16": 2e-2}
_WARM_UPS, _COUNTED = 4, 3


def _run(
    setting: Setting, number: int, precision: Precision, steps: int, every_steps: int, **how: Any
) -> list[dict[str, Any]]:
    """Records of the first updates of a stage, from the same weights and batches each time."""
    config, stage = setting.small, stage_of(setting.small, number)
    rows: dict[str, int] = dict.fromkeys(stage.task.modalities, setting.small_rows)
    train = one_device(stage, rows, every_steps=every_steps, precision=precision)
    task = MoMoTask(build_model(config.model), stage.task)
    loaders = {m: RandomLoader(config, m, n) for m, n in rows.items()}
    return run_loop(task, train, loaders, steps, **how)


def _losses(
    setting: Setting, number: int, precision: Precision, device: torch.device
) -> list[dict[str, float]]:
    records = _run(setting, number, precision, STEPS, 1, device=device)
    return [{k: v for k, v in r.items() if k.startswith("loss/")} for r in records]


def _loss_rows(setting: Setting, number: int) -> Iterator[Row]:
    expected = _losses(setting, number, "fp32", torch.device("cpu"))
    for precision, most in _MOST.items():
        found = _losses(setting, number, precision, DEVICE)
        apart = [
            max(abs(ours[k] - theirs[k]) / abs(theirs[k]) for k in theirs)
            for ours, theirs in zip(found, expected, strict=True)
        ]
        yield compare(
            f"losses: stage {number}, {setting.small.preset}, {precision}: "
            f"most that a loss of update 1 to {STEPS} is apart from the CPU's in fp32",
            [1000 * max(apart)],
            "allowed",
            [1000 * most],
            unit="thousandths",
            largest_ratio=1.0,
        )


def _wait_rows(setting: Setting, number: int, precision: Precision) -> Iterator[Row]:
    """Steps of the whole loop, batches and all, that are not logged."""
    waits = Waits()

    def after(step: int) -> None:
        if step == _WARM_UPS:
            waits.start()
        elif step == _WARM_UPS + _COUNTED:
            waits.stop()

    try:
        _run(setting, number, precision, _WARM_UPS + _COUNTED, NEVER, after=after)
    finally:
        waits.stop()
    for line, count in waits.by_line.most_common():
        say(f"stage {number}, {precision}: {count / _COUNTED:g} waits a step at {line}")
    yield compare(
        f"waits: stage {number}, {setting.small.preset}, {precision}: waits for the device a step "
        "that is not logged",
        [waits.total / _COUNTED],
        "allowed",
        [2.0],
        unit="waits",
        largest_ratio=1.0,
    )


def losses(setting: Setting) -> Cases:
    """All stages at demo size: losses of a few updates and waits, in fp32 and bf16."""
    found: dict[str, Any] = {}
    for number in (1, 2, 3):
        found[f"stage {number}, losses"] = partial(_loss_rows, setting, number)
        for precision in _MOST:
            name = f"stage {number}, waits, {precision}"
            found[name] = partial(_wait_rows, setting, number, precision)
    return found
