"""All phases: from corpora to the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from momo_platform.stages import Artifact, Context, Stage, UserError, by_role
from momo_platform.stages.stage import all_stages
from pipelines.artifacts import ModelFolder
from pipelines.config import PipelineConfig
from pipelines.graph.corpora import Corpora, prepare
from pipelines.graph.evaluation import Evaluation, evaluate
from pipelines.graph.training import train
from pipelines.initial_model import initial_stage
from pipelines.report.stage import ReportConfig, run_report


@dataclass(frozen=True)
class ExportConfig:
    """Nothing to choose yet."""


@by_role
def run_export(config: ExportConfig, context: Context, *, model: Artifact) -> dict[str, Any]:
    """Stage: the last training stage's model with its tokenizer → `model/`, for `momo.load`."""
    exported = ModelFolder(context.output)
    copied = exported.copy_from(ModelFolder(model.path).path)
    file = exported.path / "config.json"
    made_by = f"{model.name}/{model.fingerprint}"  # for its lineage
    file.write_text(
        json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"artifact": made_by}, indent=1)
    )
    return copied


def build_graph(config: PipelineConfig, command: str = "") -> dict[str, Stage]:
    """All stages by name, inputs first; `report` is the last and names `command`. Raises UserError
    for sources that don't exist and for settings that don't fit together."""
    _check_lengths(config)
    initial = initial_stage(config)
    corpora = prepare(config, initial)
    models = train(config, corpora, initial)
    evaluation = evaluate(models, corpora, config)
    export = Stage("export", run_export, ExportConfig(), {"model": _last(models)}, version=2)
    report = _report(config, corpora, models, evaluation, export, command)
    # Of the corpora also those that this job does not need: index.py and others pick them by name.
    return {stage.name: stage for stage in all_stages([*corpora.stages, report])}


def _last(models: Mapping[str, Stage]) -> Stage:
    return list(models.values())[-1]


def _check_lengths(config: PipelineConfig) -> None:
    longest = config.model.max_text_length
    for option in ("packed_text_length", "pair_text_length"):
        if not 2 < getattr(config, option) <= longest:
            raise UserError(
                f"--{option.replace('_', '-')} {getattr(config, option)}: give 3 to "
                f"model.max_text_length={longest}"
            )


def _report(
    config: PipelineConfig,
    corpora: Corpora,
    models: Mapping[str, Stage],
    evaluation: Evaluation,
    export: Stage,
    command: str,
) -> Stage:
    suites = evaluation.suites
    used = {s.name for s in all_stages([*models.values(), *evaluation.stages])}
    return Stage(
        "report",
        run_report,
        ReportConfig(
            config.preset,
            tuple(models),
            {n: s.names for n, s in suites.items()},
            {n: s.missing for n, s in suites.items()},
            given=evaluation.given,
            untrained=evaluation.untrained.names,
            command=command,
            places={
                kind: {s.name: s.uri for s in stage.config.sources}
                for kind, stage in corpora.prepared.items()
            },
        ),
        {
            **models,
            **{n: node for suite in suites.values() for n, node in suite.stages.items()},
            **evaluation.untrained.stages,
            "export": export,
            **evaluation.baselines,
            **{f"prepare-{c}": s for c, s in corpora.kept.items() if s.name in used},
            **{s.name: s for s in corpora.mixed.values() if s.name in used},
        },
        code=("pipelines.evaluation.scores", "pipelines.report"),
    )
