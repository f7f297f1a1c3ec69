"""The model before any training, as a stage: it is measured as trained ones are, by the same
protocols, fine-tunings included. Light: the driver imports it, torch comes later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from momo.config import ModelConfig
from momo_platform.stages import Context, Stage, by_role
from pipelines.artifacts import ModelFolder, TokenizerFile
from pipelines.config import EvaluationConfig
from pipelines.evaluation.graph import Suite, build_suite
from pipelines.evaluation.tasks import EvaluationTask

UNTRAINED = "untrained"
"""Its stage, and what its tasks' stages end in."""


@dataclass(frozen=True)
class UntrainedConfig:
    """`text_length`: tokens of a caption; 0: as the model says whose words it has."""

    model: ModelConfig
    seed: int
    text_length: int = 0


@by_role
def run_untrained(
    config: UntrainedConfig,
    context: Context,
    *,
    tokenizer: TokenizerFile | None = None,
    model: ModelFolder | None = None,
) -> dict[str, Any]:
    """Stage: the first random weights with the words of `tokenizer` or of a trained `model` →
    `model/`, as `momo.load` reads it."""
    from momo.export import read_config, save
    from momo.model import build_model

    words = model.tokenizer if model is not None else tokenizer
    assert words is not None, "the stage has neither a tokenizer nor a model"
    text = words.path.read_text(encoding="utf-8")
    length = config.text_length
    if not length and model is not None:
        length = read_config(model.path).get("text_length", 0)
    extra = {"text_length": length} if length else {}
    made = build_model(config.model, config.seed)
    save(made, ModelFolder(context.output).path, text, extra)
    return {"parameters": sum(p.numel() for p in made.parameters())}


def untrained_suite(
    tasks: Sequence[EvaluationTask],
    evaluation: EvaluationConfig,
    sources: Mapping[str, Stage],
    config: UntrainedConfig | None,
    words: Mapping[str, Stage],
) -> Suite:
    """The stages of those tasks that name a baseline. `words`: the stage that has the words'
    tokenizer, by its role. Empty where `config` is None or none is asked for."""
    chosen = [task for task in tasks if task.baseline]
    if config is None or not evaluation.untrained or not chosen:
        return Suite({}, {})
    model = Stage(UNTRAINED, run_untrained, config, dict(words), code=("momo.model",))
    return build_suite(model, UNTRAINED, chosen, evaluation, sources)
