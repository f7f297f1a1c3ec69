"""The training stages' function and recipe. Light: the driver imports it, torch comes later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from momo.config import ModelConfig, TaskConfig
from momo_platform.stages import Artifact, Context
from momo_platform.training.config import TrainConfig
from momo_platform.training.stage import run_torch_trainer


@dataclass(frozen=True)
class StageRecipe:
    """What one training stage is made of."""

    model: ModelConfig
    task: TaskConfig
    train: TrainConfig
    pair_text_length: int


def rows_together(task: TaskConfig) -> dict[str, int]:
    """Modality → how many neighbours of a global batch stay on one worker."""
    return {m: task.rows_together(m) for m in task.modalities}


def run_training(
    config: StageRecipe, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: inputs of each modality's corpus (shards), tokenizer, previous (weights).

    Writes `model/` (weights, config, tokenizer), `metrics.jsonl` and what trackers leave; where an
    earlier model than the last was kept, `last/model/` too.
    """
    return run_torch_trainer(
        builder="pipelines.build:build_setup",
        recipe=config,
        train=config.train,
        resolve_inputs=context.resolve_inputs,
        context=context,
    )
