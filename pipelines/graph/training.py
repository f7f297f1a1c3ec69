"""The second phase: mixtures → a model a training stage, each from the one before."""

from __future__ import annotations

from dataclasses import replace

from momo_platform.stages import Resources, Stage, UserError
from momo_platform.training.config import ScalingConfig
from pipelines.config import PipelineConfig, TrainingStage
from pipelines.graph.corpora import Corpora
from pipelines.modalities import MODALITIES
from pipelines.training import StageRecipe, prepared_role, rows_together, run_training


def train(config: PipelineConfig, corpora: Corpora, initial: Stage | None) -> dict[str, Stage]:
    """The training stages that have steps, by name, in order; the first starts from `initial`,
    where there is one. Raises UserError for settings that don't fit together."""
    trained: dict[str, Stage] = {}
    previous = initial
    for name, stage in config.trained.items():
        inputs = {"tokenizer": corpora.tokenizer}
        for modality in stage.task.modalities:
            inputs |= rows_of(modality, corpora.mixed[modality])
        if previous is not None:
            inputs["previous"] = previous
        previous = trained[name] = Stage(
            name,
            run_training,
            _recipe(name, stage, config),
            dict(inputs),
            version=4,
            resources=training_resources(stage.train.scaling),
            code=("momo", "momo_platform.training", "pipelines.build"),
        )
    if not trained:
        raise UserError(
            f"nothing to train: the steps of {', '.join(config.training) or 'no stage'} are 0; "
            "raise them, or name stages with --stages"
        )
    return trained


def rows_of(modality: str, mixed: Stage) -> dict[str, Stage]:
    """What a modality's batches are read from, by role: its mixture, and the prepared rows where
    that has none of its own."""
    if MODALITIES[modality].tokenized:
        return {modality: mixed}
    return {modality: mixed, prepared_role(modality): mixed.inputs["prepared"]}


def training_resources(scaling: ScalingConfig) -> Resources:
    """What a training stage takes: its workers', or its own where it trains in its own process.
    Each keeps a whole processor busy, whatever share of it the stage asks for."""
    busy = max(1, scaling.num_workers) * max(1.0, scaling.cpus_per_worker)
    training_cpus = 0.0 if scaling.gpus_per_worker else busy
    if not scaling.num_workers:
        return Resources(
            num_cpus=scaling.cpus_per_worker,
            num_gpus=scaling.gpus_per_worker,
            training_cpus=training_cpus,
        )
    return Resources(
        workers=scaling.min_workers or scaling.num_workers,
        worker_cpus=scaling.cpus_per_worker,
        worker_gpus=scaling.gpus_per_worker,
        early_start=True,
        training_cpus=training_cpus,
    )


def _recipe(name: str, stage: TrainingStage, config: PipelineConfig) -> StageRecipe:
    scaling: ScalingConfig = stage.train.scaling
    if config.run.ingest is not None:
        scaling = replace(scaling, ingest=config.run.ingest)
        stage = replace(stage, train=replace(stage.train, scaling=scaling))
    _check_batches(name, stage)
    try:
        config.model.check_has(stage.task.modalities)
        # Tasks of modalities that others add have no contrastive objective.
        config.model.check_prefixes(getattr(stage.task, "contrastive_prefixes", ()))
    except ValueError as error:
        raise UserError(f"{name}: {error}") from error
    return StageRecipe(config.model, stage.task, stage.train, config.pair_text_length)


def _check_batches(name: str, stage: TrainingStage) -> None:
    scaling, together = stage.train.scaling, rows_together(stage.task)
    for modality, size in stage.train.batch_sizes.items():
        unit = together.get(modality, 1)
        if size % unit:
            raise UserError(
                f"{name}: train.batch_sizes {modality}={size} must be a multiple of "
                f"task.matching_group={unit}, among which false pairs are drawn"
            )
        if scaling.micro_batch_size % unit:
            raise UserError(
                f"{name}: train.scaling.micro_batch_size={scaling.micro_batch_size} must be a "
                f"multiple of task.matching_group={unit}, among which false pairs are drawn"
            )
        if scaling.num_workers > size // unit:
            groups = f" in groups of task.matching_group={unit}" if unit > 1 else ""
            raise UserError(
                f"{name}: train.batch_sizes {modality}={size}{groups} gives some of "
                f"train.scaling.num_workers={scaling.num_workers} workers nothing: a larger batch, "
                f"fewer workers{' or smaller groups' if groups else ''}"
            )
    for modality in stage.task.modalities:
        if modality not in stage.train.batch_sizes:
            raise UserError(
                f"{name}: task.modalities has {modality!r}, train.batch_sizes has no size for it"
            )
