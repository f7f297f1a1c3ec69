"""What an experiment may cost: the config that its arms start from, and equal compute for all.

| budget | a trial and seed | for |
|---|---|---|
| smoke | seconds | tests |
| hour | 120, 150 and 180 steps, on half of the demo's batches | this folder, on two cores |
| demo | the demo's own | a night |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from momo_platform.overrides import with_settings
from momo_platform.training.config import LoggingConfig, ScalingConfig
from pipelines.config import EvaluationConfig, PictureOptions, PipelineConfig, SourceOptions
from pipelines.estimates import estimate_stage
from pipelines.evaluation.tasks import choose
from pipelines.graph.corpora import is_own
from pipelines.modalities import MODALITIES
from pipelines.presets import PRESETS
from pipelines.training import StageRecipe

Budget = Literal["smoke", "hour", "demo"]
STAGES = ("stage1-image", "stage2-joint", "stage3-pair")
# A trial trains in its stage's own process, on one core: no group of workers to start.
_SCALING = ScalingConfig(num_workers=0, cpus_per_worker=1.0, threads_per_worker=1)
_STEPS: Mapping[Budget, tuple[int, int, int]] = {"smoke": (10, 10, 10), "hour": (120, 150, 180)}
_DEMO_TASKS = (
    *("demo/mnist", "demo/emoji_category", "demo/movie_sentiment"),
    *("demo/image_to_text", "demo/text_to_image", "demo/easy_vqa"),
)
_EVALUATION: Mapping[Budget, EvaluationConfig] = {
    "smoke": EvaluationConfig(
        tasks=("demo/mnist", "demo/movie_sentiment", "demo/image_to_text", "demo/text_to_image"),
        sentiment_epochs=1,
        limit=400,
    ),
    "hour": EvaluationConfig(tasks=_DEMO_TASKS, sentiment_epochs=1, question_limit=6_000),
    "demo": EvaluationConfig(tasks=_DEMO_TASKS),
}


def base_config(budget: Budget) -> PipelineConfig:
    """The demo's corpora, model and recipe (preset smoke's for tests) with the budget's steps."""
    config = PRESETS["smoke" if budget == "smoke" else "demo"]()
    own = tuple(config.training[name].train.steps for name in STAGES)
    changes: dict[str, Any] = {"evaluation": _EVALUATION[budget]}
    for name, steps in zip(STAGES, _STEPS.get(budget, own), strict=True):
        train, path = config.training[name].train, f"training.{name}.train"
        optimizer = train.optimizer
        if budget == "hour":
            halved = {modality: size // 2 for modality, size in train.batch_sizes.items()}
            changes[f"{path}.batch_sizes"] = halved
        changes |= {
            f"{path}.steps": steps,
            f"{path}.scaling": _SCALING,
            f"{path}.logging": LoggingConfig(
                every_steps=5, checkpoint_every_steps=100, tensorboard=False
            ),
            f"{path}.optimizer.warmup_steps": min(optimizer.warmup_steps, 1 + steps // 9),
        }
    return with_settings(config, changes)


def on_sources(
    config: PipelineConfig,
    sources: Mapping[str, SourceOptions],
    picture: PictureOptions,
    tasks: Sequence[str],
) -> PipelineConfig:
    """The config on the user's own sources, where some are given: scored by the tasks own/…, and by
    those of the demo's tasks whose corpora are still the demo's, unless `tasks` are named."""
    own = {kind for kind, source in sources.items() if is_own(source)}
    # Pairs give what has no source of its own.
    own |= {c for c, s in sources.items() if not s.source and MODALITIES[c].given_by in own}
    named, tasks = tasks, tuple(tasks) or config.evaluation.tasks
    if own and not named:
        kept = [t.name for t in choose(tasks) if t.data_set.kind not in own]
        tasks = (*(t.name for t in choose(("own",)) if t.data_set.kind in own), *kept)
    evaluation = replace(config.evaluation, tasks=tasks)
    return replace(config, corpora=sources, picture=picture, evaluation=evaluation)


def training_flops(config: PipelineConfig) -> dict[str, float]:
    """Stage → floating-point operations of its training, texts taken at their greatest length."""
    found = {}
    for name, stage in config.training.items():
        recipe = StageRecipe(config.model, stage.task, stage.train, config.pair_text_length)
        found[name] = estimate_stage(name, recipe, config.packed_text_length).flops
    return found


def equal_compute(base: PipelineConfig, settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with the steps that make training cost what the base's costs, in FLOP.

    The stages that `settings` change take more or fewer steps; where they only leave stages out,
    all that remain do.
    """
    config = with_settings(base, settings)
    before, after = training_flops(base), training_flops(config)
    trained = [n for n in config.training if after[n] > 0]
    changed = [
        n for n in trained if config.model != base.model or config.training[n] != base.training[n]
    ]
    scaled = changed or trained
    left = sum(before.values()) - sum(after[n] for n in trained if n not in scaled)
    factor = left / sum(after[n] for n in scaled)
    if abs(factor - 1.0) < 0.005:
        return dict(settings)
    steps = {n: max(1, round(config.training[n].train.steps * factor)) for n in scaled}
    return {**settings, **{f"training.{name}.train.steps": count for name, count in steps.items()}}


def every_stage(path: str, value: Any, stages: tuple[str, ...] = STAGES) -> dict[str, Any]:
    """The same change in several stages: `train.steps` → `training.stage1-image.train.steps`"""
    return {f"training.{stage}.{path}": value for stage in stages}


def images_in_stage3(config: PipelineConfig, share: int = 1) -> dict[str, Any]:
    """Settings: pictures alone beside stage 3's texts and pairs, 1/`share` of stage 2's batches."""
    size = config.training["stage2-joint"].train.batch_sizes["image"] // share
    return {
        "training.stage3-pair.task.modalities": ("image", "text", "pair"),
        "training.stage3-pair.train.batch_sizes.image": size,
    }


def learning_rates(config: PipelineConfig) -> dict[str, float]:
    """Path of each stage's learning rate → the rate."""
    return {
        f"training.{name}.train.optimizer.learning_rate": stage.train.optimizer.learning_rate
        for name, stage in config.training.items()
    }


def with_model(**fields: Any) -> dict[str, Any]:
    """Settings that change the model's fields."""
    return {f"model.{name}": value for name, value in fields.items()}
