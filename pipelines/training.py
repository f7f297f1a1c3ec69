"""The training stages' function and recipe. Light: the driver imports it, torch comes later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from momo.config import ModelConfig, TaskConfig
from momo_platform.data.artifacts import Mixture, PreparedRows
from momo_platform.stages import Context
from momo_platform.stages.inputs import by_role_later
from momo_platform.training.config import TrainConfig
from momo_platform.training.stage import Build, run_torch_trainer
from pipelines.artifacts import ModelFolder, TokenizerFile


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


def prepared_role(modality: str) -> str:
    """The role of the prepared rows that a modality's mixture is of, where it copies none."""
    return f"{modality}-rows"


@dataclass(frozen=True, kw_only=True)
class TrainingInputs:
    """`mixed`: each modality's mixture and, by `prepared_role`, the rows that it is of;
    `previous`: whose weights training starts from."""

    tokenizer: TokenizerFile
    mixed: Mapping[str, Mixture]
    previous: ModelFolder | None = None

    def prepared(self, modality: str) -> PreparedRows | None:
        """None where the mixture has shards of its own."""
        found = self.mixed.get(prepared_role(modality))
        return None if found is None else PreparedRows(found.place)


def _builder() -> Build:
    from pipelines.build import build_setup

    return build_setup


@by_role_later(TrainingInputs)
def run_training(
    config: StageRecipe, context: Context, inputs: Callable[[], TrainingInputs]
) -> dict[str, Any]:
    """Stage: writes `model/` (weights, config, tokenizer), `metrics.jsonl` and what trackers leave;
    where an earlier model than the last was kept, `last/model/` too."""
    return run_torch_trainer(
        builder=_builder,
        recipe=config,
        train=config.train,
        resolve_inputs=inputs,
        context=context,
    )
