"""What trivial methods reach: a stage of the graph. Imports torch inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from momo_platform.stages import Artifact, Context, Resources, Stage, by_role
from pipelines.artifacts import ModelFolder, TokenizerFile
from pipelines.config import EvaluationConfig
from pipelines.evaluation.configs import BaselinesConfig, MeasuredTask
from pipelines.evaluation.datasets import locate
from pipelines.evaluation.tasks import EvaluationTask


def baselines_stage(
    tasks: Sequence[EvaluationTask],
    evaluation: EvaluationConfig,
    sources: Mapping[str, Stage],
    words: Mapping[str, Stage],
) -> Stage | None:
    """The stage for those tasks that name a baseline and whose data are there; None for none.

    `words`: the stage that has the words' tokenizer, by its role; empty: none.
    """
    measured, roles = [], set[str]()
    for task in tasks:
        place = locate(task.data_set, evaluation.data)
        if not task.baseline or isinstance(place, str) or set(task.data_set.inputs) - set(sources):
            continue
        measured.append(MeasuredTask(task.name, task.protocol, task.metric, place))
        roles |= set(task.data_set.inputs)
    if not measured:
        return None
    measured.sort(key=lambda task: task.place.data)  # of one data set in turn: it is loaded once
    return Stage(
        "baselines",
        run_baselines,
        BaselinesConfig(evaluation.seed, evaluation.limit, tuple(measured)),
        {**{role: sources[role] for role in sorted(roles)}, **words},
        version=4,
        resources=Resources(num_cpus=1.0, gives_way=True),
        code=("momo.evaluation", "pipelines.evaluation"),
    )


@by_role
def run_baselines(
    config: BaselinesConfig,
    context: Context,
    *,
    data: Mapping[str, Artifact],
    tokenizer: TokenizerFile | None = None,
    model: ModelFolder | None = None,
) -> dict[str, Any]:
    """Stage: → {"tasks": {name: {"baseline", "details"}}}: the trivial method's value; None where
    that is chance, or can't be had."""
    import torch

    from pipelines.evaluation.trivial import Baselines

    torch.set_num_threads(1)
    found = {}
    work = Baselines(config, data, model.tokenizer if model else tokenizer)
    for task in config.tasks:
        context.progress({"message": task.name})
        if (one := work.of(task)) is not None:
            found[task.name] = one
    return {"tasks": found}
