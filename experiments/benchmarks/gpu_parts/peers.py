"""Updates and encoding beside transformers' ViT-MAE and FLAVA: rows equal, bf16, all eager."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from experiments.benchmarks.gpu_parts.setting import Cases, Setting
from experiments.benchmarks.gpu_parts.speed import free_memory
from experiments.benchmarks.gpu_parts.stages import StageUpdate, host_batches, one_device
from experiments.benchmarks.harness import Row, compare
from experiments.benchmarks.updates import (
    LONG,
    flava_pair_updater,
    ids_of,
    interleaved,
    mae_updater,
    pair_encoders,
)

SHORT = 16
_UPDATE_GOALS = {LONG: 1.8, SHORT: 2.5}
_INFERENCE_GOALS = {LONG: 2.2, SHORT: 3.0}
_MAE_GOAL = 1.2


def _mae_rows(setting: Setting) -> Iterator[Row]:
    free_memory()
    config, rows = setting.preset, {"image": setting.peer_rows}
    train = one_device(config.training["stage1-image"], rows)
    ours = StageUpdate(
        config, config.training["stage1-image"].task, train, host_batches(config, rows)
    )
    calls = {"ours": ours, "ViT-MAE": mae_updater(setting.peer_rows, config.model)}
    taken = interleaved(setting.runs, calls, warm_ups=2, at_least=setting.run_seconds)
    rates = {name: [setting.peer_rows / s for s in values] for name, values in taken.items()}
    yield compare(
        f"ViT-MAE: update of stage 1, {setting.peer_rows} pictures",
        rates["ours"],
        "ViTMAEForPreTraining",
        rates["ViT-MAE"],
        unit="pictures/s",
        least_ratio=_MAE_GOAL,
    )


def vit_mae(setting: Setting) -> Cases:
    """Stage 1 beside ViT-MAE, each with its own share of masks (both three quarters)."""
    return {"update": partial(_mae_rows, setting)}


def _flava_rows(setting: Setting, real: int) -> Iterator[Row]:
    free_memory()
    config, rows = setting.preset, {"pair": setting.pair_rows}
    task = replace(config.training["stage3-pair"].task, modalities=("pair",), contrastive_chunk=0)
    host = host_batches(replace(config, pair_text_length=LONG), rows)
    host["pair"]["ids"] = ids_of(rows["pair"], LONG, real, config.model.vocab_size).cpu().numpy()
    ours = StageUpdate(config, task, one_device(config.training["stage3-pair"], rows), host)
    theirs = flava_pair_updater(rows["pair"], real, codebook=False, model=config.model)
    calls = {"ours": ours, "FLAVA": theirs}
    taken = interleaved(setting.runs, calls, warm_ups=2, at_least=setting.run_seconds)
    rates = {name: [setting.pair_rows / s for s in values] for name, values in taken.items()}
    yield compare(
        f"FLAVA: update of stage 3's pairs, {setting.pair_rows} pairs, {real} tokens",
        rates["ours"],
        "FlavaForPreTraining without codebook",
        rates["FLAVA"],
        unit="pairs/s",
        least_ratio=_UPDATE_GOALS[real],
    )


def flava(setting: Setting) -> Cases:
    """Stage 3's pairs beside FLAVA with its targets ready made."""
    return {f"{real} tokens": partial(_flava_rows, setting, real) for real in _UPDATE_GOALS}


def _inference_rows(setting: Setting) -> Iterator[Row]:
    free_memory()
    rows = setting.inference_rows
    encoders = pair_encoders(rows, tuple(_INFERENCE_GOALS), setting.model)
    for real, goal in _INFERENCE_GOALS.items():
        calls = encoders[real]
        taken = interleaved(setting.runs, calls, warm_ups=2, at_least=setting.run_seconds)
        rates = {name: [rows / s for s in values] for name, values in taken.items()}
        yield compare(
            f"inference: {rows} pairs, {real} tokens",
            rates["ours"],
            "FlavaModel",
            rates["FLAVA"],
            unit="pairs/s",
            least_ratio=goal,
        )


def inference(setting: Setting) -> Cases:
    """Joint encoding of pairs beside FlavaModel."""
    return {"pairs": partial(_inference_rows, setting)}
