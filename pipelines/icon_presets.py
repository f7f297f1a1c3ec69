"""Preset `icons`: sizes of the model, and budgets by name.

| budget | for | pictures to train on |
|---|---|---|
| hour | two CPU cores, about an hour, preparation included | 60,000, one of a concept and set |
| evening | two CPU cores, two and a half hours; Ctrl-C and the same command goes on | 120,000 |
| gpu | five minutes of training on one H200, evaluation on CPUs | 120,000, on the GPU |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from momo.config import SIZES, ModelConfig, TaskConfig
from momo_platform.stages import UserError
from momo_platform.training.config import (
    LoggingConfig,
    OptimizerConfig,
    Precision,
    ScalingConfig,
    TrainConfig,
)
from pipelines.config import EvaluationConfig, PipelineConfig, TrainingStage
from pipelines.icons.corpora import IconCorpora

_DECODER: dict[str, Any] = {"decoder_width": 128, "decoder_depth": 2, "decoder_heads": 4}
_LARGER: dict[str, Any] = {**_DECODER, "embed_dim": 256, "text_init": "unit"}
ICON_SIZES: Mapping[str, ModelConfig] = {
    "tiny": replace(SIZES["demo"], text_init="unit"),  # 1.6M parameters
    "mini": ModelConfig(width=320, depth=8, heads=5, **_LARGER),  # 12M
    "small": ModelConfig(width=384, depth=12, heads=6, **_LARGER),  # 24M
}
"""All at 64 px in 16 patches; `--model.patch-size 8` makes 64 of them."""


@dataclass(frozen=True)
class TimeBudget:
    """`steps` of the three stages at size tiny and `slower`: how many times fewer of a larger one.
    `batches`: samples an update of a stage's modalities."""

    steps: tuple[int, int, int]
    slower: Mapping[str, float]
    batches: tuple[Mapping[str, int], Mapping[str, int], Mapping[str, int]]
    rates: tuple[float, float, float]
    corpora: IconCorpora
    scaling: ScalingConfig
    precision: Precision
    checkpoint_every: int
    warmup: float = 0.05


_ON_CORES = ScalingConfig(num_workers=2, cpus_per_worker=0.45, threads_per_worker=1)
_ON_GPU = ScalingConfig(num_workers=1, cpus_per_worker=4, gpus_per_worker=1, resident=True)
_CORES = {"tiny": 1.0, "mini": 7.0, "small": 14.0}
_GPU = {"tiny": 1.0, "mini": 1.6, "small": 3.0}
_SMALL_BATCHES = ({"image": 256}, {"image": 128, "text": 64}, {"text": 32, "pair": 256})
_LARGE_BATCHES = ({"image": 2048}, {"image": 1024, "text": 512}, {"text": 256, "pair": 2048})
BUDGETS: Mapping[str, TimeBudget] = {
    "hour": TimeBudget(
        (1600, 1200, 1600),
        _CORES,
        _SMALL_BATCHES,
        (2e-3, 5e-4, 1.5e-3),
        IconCorpora(pictures=60_000, in_a_set=1),
        _ON_CORES,
        "fp32",
        checkpoint_every=100,
    ),
    "evening": TimeBudget(
        (4500, 3500, 5600),
        _CORES,
        _SMALL_BATCHES,
        (2e-3, 5e-4, 1.5e-3),
        IconCorpora(pictures=120_000),
        _ON_CORES,
        "fp32",
        checkpoint_every=200,
    ),
    "gpu": TimeBudget(
        (2500, 2000, 2000),
        _GPU,
        _LARGE_BATCHES,
        (3e-3, 1e-3, 2e-3),
        IconCorpora(pictures=120_000),
        _ON_GPU,
        "bf16",
        checkpoint_every=500,
    ),
}
_TASKS = {
    "stage1-image": TaskConfig(modalities=("image",)),
    "stage2-joint": TaskConfig(modalities=("image", "text")),
    "stage3-pair": TaskConfig(modalities=("text", "pair")),
}


def icons(budget: str = "hour", size: str = "tiny") -> PipelineConfig:
    """Three stages on the icons' corpora, within a budget. Raises UserError for unknown names."""
    for option, name, known in (("budget", budget, BUDGETS), ("size", size, ICON_SIZES)):
        if name not in known:
            raise UserError(f"--{option} {name!r}: give one of {', '.join(known)}")
    chosen = BUDGETS[budget]
    larger = chosen.slower[size]
    training = {
        name: TrainingStage(
            task, _train(chosen, max(1, round(chosen.steps[i] / larger)), i, larger)
        )
        for i, (name, task) in enumerate(_TASKS.items())
    }
    return PipelineConfig(
        preset="icons",
        model=ICON_SIZES[size],
        training=training,
        bundle="icons",
        icons=chosen.corpora,
        evaluation=EvaluationConfig(),
    )


def _train(budget: TimeBudget, steps: int, stage: int, larger: float) -> TrainConfig:
    # Larger models take lower rates: by the fourth root of how much slower an update is.
    rate = budget.rates[stage] / max(1.0, larger) ** 0.25
    every = max(1, min(budget.checkpoint_every, steps // 5))
    return TrainConfig(
        steps=steps,
        batch_sizes=dict(budget.batches[stage]),
        precision=budget.precision,
        optimizer=OptimizerConfig(
            learning_rate=rate, warmup_steps=max(1, round(budget.warmup * steps))
        ),
        scaling=replace(budget.scaling),
        logging=LoggingConfig(every_steps=10, checkpoint_every_steps=every),
    )
