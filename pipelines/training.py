"""The training stages' function and recipe. Light: the driver imports it, torch comes later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from momo.config import ModelConfig, TaskConfig
from momo_platform.data.listing import Kind
from momo_platform.stages import Artifact, Context, UserError
from momo_platform.stages.manifest import sha256_of
from momo_platform.training.config import MECHANICS, TrainConfig
from momo_platform.training.stage import run_torch_trainer

ROLES: Mapping[str, Kind] = {"image": "images", "text": "text", "pair": "pairs"}
"""A modality → the role of the input with its shards."""


@dataclass(frozen=True)
class StageRecipe:
    """What one training stage is made of.

    `initial_weights` is the digest of the MAE encoder that the first stage starts from, empty:
    from the seed. The file's place does not matter.
    """

    model: ModelConfig
    task: TaskConfig
    train: TrainConfig
    pair_text_length: int
    initial_weights: str = ""
    initial_weights_file: str = field(default="", metadata=MECHANICS)


def rows_together(task: TaskConfig) -> dict[str, int]:
    """Modality → how many neighbours of a global batch stay on one worker: false pairs are drawn
    among them."""
    drawn = "matching" in task.objectives
    return {m: task.matching_group if m == "pair" and drawn else 1 for m in task.modalities}


def weights_digest(file: Path) -> str:
    """16 hex digits over the bytes of a weights file. Raises UserError when there is none."""
    try:
        return sha256_of(file)[:16]
    except OSError as error:
        raise UserError(
            f"--initial-weights {file}: {error.strerror}; give a MAE encoder in timm's layout, "
            "a .safetensors or .pth file that every worker can read"
        ) from error


def checked_weights(recipe: StageRecipe) -> Path:
    """The recipe's weights file, on a worker. Raises UserError when it is another one there."""
    file = Path(recipe.initial_weights_file)
    if (digest := weights_digest(file)) != recipe.initial_weights:
        raise UserError(
            f"--initial-weights {file} has digest {digest} here, {recipe.initial_weights} when the "
            "run was planned: start again with the file as it is now"
        )
    return file


def run_training(
    config: StageRecipe, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: inputs images, text, pairs (shards), tokenizer, previous (weights); those it needs.

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
