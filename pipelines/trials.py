"""One trial of a sweep: the pipeline's graph with some fields changed, ending in its scores."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from momo.config import TaskConfig
from momo_platform.overrides import as_options, differences, with_settings
from momo_platform.stages import Artifact, Context, Stage, UserError, by_role
from momo_platform.sweeps import Settings
from pipelines.config import PipelineConfig, TrainingStage
from pipelines.evaluation.graph import Suite, build_suite
from pipelines.evaluation.tasks import EvaluationTask
from pipelines.graph import build_graph
from pipelines.graph.corpora import needed_corpora, prepared_rows
from pipelines.graph.evaluation import choose_tasks
from pipelines.presets import PRESETS
from pipelines.training import StageRecipe


@dataclass(frozen=True)
class TrialBase:
    """What all trials of a sweep start from: the config, and in how many segments the last training
    stage is trained (population-based training; else 1)."""

    config: PipelineConfig
    segments: int = 1


@dataclass(frozen=True)
class ScoresConfig:
    """Task → the stage that ran it; task → why not; tasks from the command line."""

    tasks: Mapping[str, str]
    missing: Mapping[str, str]
    given: tuple[EvaluationTask, ...] = ()


@by_role
def run_scores(
    config: ScoresConfig, context: Context, *, model: Artifact, results: Mapping[str, Artifact]
) -> dict[str, Any]:
    """Stage: the evaluations of one model → {"macro": mean of the groups' means, "groups":
    {group: mean}, "tasks": {name: value}, "sample": {"tasks": {name: the interval's `low` and
    `high` over the test examples}}, "validation" likewise (what a recipe is chosen by),
    "parameters", "training_seconds", "loss": {objective: mean over the last fifth of the last
    training stage's records}, "total_loss": their weighted sum}.
    """
    from momo_platform.training.records import FILE_NAME, read_records
    from pipelines.evaluation.scores import summaries

    nodes, missing = {"model": config.tasks}, {"model": config.missing}
    summary = summaries(nodes, missing, results, config.given).models["model"]
    # One's own data may lack labels or pairs; of the other tasks each must be there.
    lacking = {n: w for n, w in summary["not_available"].items() if not n.startswith("own/")}
    if lacking or not summary["tasks"]:
        absent = "; ".join(f"{n}: {w}" for n, w in summary["not_available"].items())
        raise UserError(f"a trial needs all its tasks: {absent}")
    trained = [a.metrics for name, a in results.items() if name.startswith("trained-")]
    last = model.metrics
    groups = {group: mean for group, mean in summary["groups"].items() if mean is not None}
    records = read_records(model.path / FILE_NAME)
    losses: dict[str, list[float]] = {}
    for record in records[-max(1, len(records) // 5) :]:
        for key, value in record.items():
            if key.startswith("loss/") and value is not None:
                losses.setdefault(key.removeprefix("loss/"), []).append(value)
    details = {name: row["details"] for name, row in summary["tasks"].items()}
    validation = {n: found["validation"] for n, found in details.items() if "validation" in found}
    intervals = {
        name: {"low": row["low"], "high": row["high"]}
        for name, row in summary["tasks"].items()
        if row["low"] is not None
    }
    means = {name: sum(values) / len(values) for name, values in losses.items()}
    recipe = model.manifest.config
    weights = TaskConfig(**recipe["task"]).objectives if "task" in recipe else {}
    return {
        "macro": sum(groups.values()) / len(groups) if groups else None,
        "groups": groups,
        "tasks": {name: row["value"] for name, row in summary["tasks"].items()},
        "sample": {"tasks": intervals},
        "validation": validation,
        "validation_mean": sum(validation.values()) / len(validation) if validation else None,
        "parameters": last["parameters"],
        "training_seconds": sum(m["seconds_training"] for m in (*trained, last)),
        "loss": means,
        "total_loss": sum(weights.get(name, 1.0) * value for name, value in means.items()),
    }


def with_seed(config: PipelineConfig, seed: int) -> PipelineConfig:
    """All training and evaluation from `seed`; corpora, their order in the shards and the tokenizer
    stay, so that they are made once."""

    def seeded(stage: TrainingStage) -> TrainingStage:
        return replace(stage, train=replace(stage.train, seed=seed))

    return replace(
        config,
        training={name: seeded(stage) for name, stage in config.training.items()},
        evaluation=replace(config.evaluation, seed=seed),
    )


def build_trial(base: TrialBase, history: Sequence[Settings], seed: int) -> Stage:
    """The `scores` stage of the config with `history`'s settings (one for each segment so far).

    Raises UserError for settings that the config refuses.
    """
    configs = [with_seed(with_settings(base.config, settings), seed) for settings in history]
    config = configs[-1]
    trained = list(config.trained)
    if not trained:
        raise UserError("a trial needs a training stage with steps above 0")
    evaluation = replace(config.evaluation, stages=(trained[-1],))
    graph = build_graph(replace(config, evaluation=evaluation))
    model = graph[trained[-1]]
    if base.segments > 1:
        model = _in_segments(model, trained[-1], configs, base.segments)
    earlier = [graph[name] for name in trained[:-1]]
    return scores_of(model, earlier, config)


def scores_of(model: Stage, earlier: Sequence[Stage], config: PipelineConfig) -> Stage:
    """The stage that scores a trained model by the config's tasks; `earlier` are the training
    stages before it."""
    needed = needed_corpora(config)
    prepared, own = prepared_rows(config.sources, needed)
    chosen = choose_tasks(config.evaluation.tasks, config.sources, prepared, own, needed)
    suite: Suite = build_suite(model, model.name, chosen.tasks, config.evaluation, chosen.sources)
    return Stage(
        "scores",
        run_scores,
        ScoresConfig(suite.names, suite.missing, chosen.given),
        {"model": model, **{f"trained-{s.name}": s for s in earlier}, **suite.stages},
        version=2,
        code=("pipelines.trials", "pipelines.evaluation.scores"),
    )


def _in_segments(
    stage: Stage, name: str, configs: Sequence[PipelineConfig], segments: int
) -> Stage:
    """The training stage as a chain, a link for each config; each trains its part of the steps and
    starts from the weights (not the moments) of the one before."""
    previous = stage.inputs.get("previous")
    link = stage
    for index, config in enumerate(configs):
        one = config.training[name]
        seed = one.train.seed + 1_000_003 * index  # other batches in every link
        train = replace(one.train, steps=max(1, one.train.steps // segments), seed=seed)
        recipe: StageRecipe = replace(stage.config, task=one.task, train=train)
        inputs = {role: s for role, s in stage.inputs.items() if role != "previous"}
        if previous is not None:
            inputs["previous"] = previous
        link = replace(
            stage, name=f"{name}-part{index + 1}of{segments}", config=recipe, inputs=inputs
        )
        previous = link
    return link


def command_of(base: PipelineConfig, settings: Settings) -> str:
    """What trains and evaluates these settings, on `base`, as a whole job of its own."""
    preset = PRESETS[base.preset]()
    config = with_settings(base, settings)
    options = [
        # As people write it.
        option.replace("--corpora.", "--", 1) if option.startswith("--") else option
        for option in as_options(differences(config, preset))
    ]
    return shlex.join(["python", "pipelines/full.py", "--preset", base.preset, *options])
