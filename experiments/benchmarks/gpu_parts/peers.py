"""Updates and encoding beside transformers' ViT-MAE and FLAVA: rows equal, bf16, all eager."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from experiments.benchmarks.gpu_parts.setting import Cases, Setting
from experiments.benchmarks.gpu_parts.speed import free_memory
from experiments.benchmarks.gpu_parts.stages import StageUpdate, host_batches, one_device
from experiments.benchmarks.harness import Row
from experiments.benchmarks.updates import (
    LONG,
    beside,
    flava_pair_updater,
    ids_of,
    mae_updater,
    pair_encoders,
)

SHORT = 16
_UPDATE_GOALS = {LONG: 1.8, SHORT: 2.5}
_INFERENCE_GOALS = {LONG: 2.2, SHORT: 3.0}
_MAE_GOAL = 1.2


def _beside(
    setting: Setting,
    name: str,
    rows: int,
    calls: dict[str, Callable[[], Any]],
    unit: str,
    goal: float,
) -> Row:
    how: Any = {"warm_ups": 2, "at_least": setting.run_seconds}
    return beside(name, rows, setting.runs, calls, unit=unit, least_ratio=goal, **how)


def _mae_rows(setting: Setting) -> Iterator[Row]:
    free_memory()
    config, stage = setting.preset, setting.preset.training["stage1-image"]
    count, rows = setting.peer_rows, {"image": setting.peer_rows}
    ours = StageUpdate(config, stage.task, one_device(stage, rows), host_batches(config, rows))
    calls = {"ours": ours, "ViTMAEForPreTraining": mae_updater(count, config.model)}
    name = f"ViT-MAE: update of stage 1, {count} pictures"
    yield _beside(setting, name, count, calls, "pictures/s", _MAE_GOAL)


def vit_mae(setting: Setting) -> Cases:
    """Stage 1 beside ViT-MAE, each with its own share of masks (both three quarters)."""
    return {"update": partial(_mae_rows, setting)}


def _flava_rows(setting: Setting, real: int) -> Iterator[Row]:
    free_memory()
    config, stage = setting.preset, setting.preset.training["stage3-pair"]
    count, rows = setting.pair_rows, {"pair": setting.pair_rows}
    task = replace(stage.task, modalities=("pair",), contrastive_chunk=0)
    host = host_batches(replace(config, pair_text_length=LONG), rows)
    host["pair"]["ids"] = ids_of(count, LONG, real, config.model.vocab_size).cpu().numpy()
    ours = StageUpdate(config, task, one_device(stage, rows), host)
    theirs = flava_pair_updater(count, real, codebook=False, model=config.model)
    calls = {"ours": ours, "FlavaForPreTraining without codebook": theirs}
    name = f"FLAVA: update of stage 3's pairs, {count} pairs, {real} tokens"
    yield _beside(setting, name, count, calls, "pairs/s", _UPDATE_GOALS[real])


def flava(setting: Setting) -> Cases:
    """Stage 3's pairs beside FLAVA with its targets ready made."""
    return {f"{real} tokens": partial(_flava_rows, setting, real) for real in _UPDATE_GOALS}


def _inference_rows(setting: Setting) -> Iterator[Row]:
    free_memory()
    rows = setting.inference_rows
    encoders = pair_encoders(rows, tuple(_INFERENCE_GOALS), setting.model)
    for real, goal in _INFERENCE_GOALS.items():
        name = f"inference: {rows} pairs, {real} tokens"
        yield _beside(setting, name, rows, encoders[real], "pairs/s", goal)


def inference(setting: Setting) -> Cases:
    """Joint encoding of pairs beside FlavaModel."""
    return {"pairs": partial(_inference_rows, setting)}
