"""The report stage: metrics.json, table.txt, table.md, index.html, and the model beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from momo.config import TaskConfig
from momo_platform.stages import Artifact, Context
from momo_platform.training.config import MECHANICS
from momo_platform.training.records import FILE_NAME, read_curves
from pipelines.artifacts import ModelFolder
from pipelines.evaluation.effects import Effect, effects, told
from pipelines.evaluation.scores import Summaries, summaries
from pipelines.evaluation.tasks import EvaluationTask
from pipelines.evaluation.untrained import UNTRAINED
from pipelines.modalities import MODALITIES, PAIR
from pipelines.report.tables import markdown_table, text_table
from pipelines.report.words import OBJECTIVE_TITLES


@dataclass(frozen=True)
class ReportConfig:
    """Which preset ran, which training stages to show, in order, and what was evaluated:
    `evaluations` is model → task → the stage that ran it, `missing` model → task → why not,
    `given` the tasks from the command line, `untrained` task → the stage that ran it on the model
    before any training.

    `command` is what a person typed; `places` corpus → source → where it lies. Neither
    is part of the fingerprint: the page has those of the run that made it.
    """

    preset: str
    training_stages: tuple[str, ...]
    evaluations: Mapping[str, Mapping[str, str]]
    missing: Mapping[str, Mapping[str, str]]
    given: tuple[EvaluationTask, ...] = ()
    untrained: Mapping[str, str] = field(default_factory=dict, metadata={"absent_at": {}})
    reconstructions: int = 8
    captions: int = 6
    nearest: int = 6
    command: str = field(default="", metadata=MECHANICS)
    places: Mapping[str, Mapping[str, str]] = field(default_factory=dict, metadata=MECHANICS)


def _prepared(inputs: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """By name the prepared corpora that this job had."""
    return {c: inputs[f"prepare-{c}"] for c in MODALITIES if f"prepare-{c}" in inputs}


def run_report(
    config: ReportConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: everything that was measured → `report/` and `model/`. Roles are names of stages,
    which the config tells."""
    output = context.output / "report"
    output.mkdir()
    ModelFolder(context.output).copy_from(ModelFolder(inputs["export"].path).path)
    measured = summaries(config.evaluations, config.missing, inputs, config.given, config.untrained)
    stages = measured.models
    last = list(stages)[-1]
    changes = _effects(config, inputs, measured)
    corpora = {name: dict(rows.metrics) for name, rows in _prepared(inputs).items()}
    metrics = {
        **stages[last],
        "stages": stages,
        "untrained": measured.untrained,
        "effects": [asdict(change) for change in changes],
        "corpora": corpora,
        "training": {n: dict(inputs[n].metrics) for n in config.training_stages},
    }
    lines = told(changes, OBJECTIVE_TITLES)
    markdown = markdown_table(stages) + "".join(f"\n{line}\n" for line in lines)
    (output / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    (output / "table.txt").write_text("\n".join([text_table(stages), *lines]), encoding="utf-8")
    (output / "table.md").write_text(markdown, encoding="utf-8")
    (output / "index.html").write_text(
        _page(config, inputs, measured, changes, markdown), encoding="utf-8"
    )
    return {"groups": stages[last]["groups"]}


def _effects(
    config: ReportConfig, inputs: Mapping[str, Artifact], measured: Summaries
) -> list[Effect]:
    """Of the training stages in their order, the first one against the untrained model."""
    first = {} if measured.untrained is None else {UNTRAINED: measured.untrained}
    trained = {n: TaskConfig(**inputs[n].manifest.config["task"]) for n in config.training_stages}
    return effects(
        {**first, **measured.models},
        {name: tuple(task.objectives) for name, task in trained.items()},
    )


def _page(
    config: ReportConfig,
    inputs: Mapping[str, Artifact],
    measured: Summaries,
    changes: Sequence[Effect],
    markdown: str,
) -> str:
    from pipelines.report.corpora import place_in_words, read_corpus
    from pipelines.report.page import Page, graph_rows
    from pipelines.report.pictures import shown_pictures
    from pipelines.report.trainings import CURVES, Training, rows_seen

    mixed = {c: inputs[f"mix-{c}"].metrics for c in MODALITIES if f"mix-{c}" in inputs}
    trainings = []
    for name in config.training_stages:
        artifact = inputs[name]
        curves = read_curves(artifact.path / FILE_NAME, CURVES)
        seen = rows_seen(artifact.manifest.config, mixed)
        trainings.append(Training(name, artifact.metrics, curves, seen))
    corpora = []
    prepared = _prepared(inputs)
    for corpus, rows in prepared.items():
        places = {n: place_in_words(uri) for n, uri in config.places.get(corpus, {}).items()}
        corpora.append(read_corpus(rows, places, mixed.get(corpus)))
    reconstructions, nearest = shown_pictures(
        ModelFolder(inputs["export"].path).path,
        prepared.get(PAIR.name),
        (config.reconstructions, config.captions, config.nearest),
    )
    first = inputs[config.training_stages[0]].manifest
    return Page(
        config.preset,
        config.command,
        first.git_commit or "unknown",
        first.packages,
        measured.models,
        trainings,
        corpora,
        graph_rows(inputs),
        markdown,
        reconstructions,
        nearest,
        [corpus for corpus in mixed if corpus not in prepared],
        measured.untrained,
        changes,
    ).render()
