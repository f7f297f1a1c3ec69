"""The report stage: metrics.json, table.txt, table.md, index.html, and the model beside them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from momo_platform.data.config import Kind
from momo_platform.stages import Artifact, Context
from momo_platform.training.config import MECHANICS
from momo_platform.training.records import FILE_NAME, read_curves
from pipelines.evaluation.scores import Summary, summaries
from pipelines.evaluation.tasks import Task
from pipelines.report.tables import markdown_table, text_table

KINDS: tuple[Kind, ...] = ("images", "text", "pairs")


@dataclass(frozen=True)
class ReportConfig:
    """Which preset ran, which training stages to show, in order, and what was evaluated:
    `evaluations` is model → task → the stage that ran it, `missing` model → task → why not,
    `given` the tasks from the command line.

    `command` is what a person typed; `places` kind (`images`, `text`, `pairs`) → source → where it
    lies. Neither is part of the fingerprint: the page has those of the run that made it.
    """

    preset: str
    training_stages: tuple[str, ...]
    evaluations: Mapping[str, Mapping[str, str]]
    missing: Mapping[str, Mapping[str, str]]
    given: tuple[Task, ...] = ()
    reconstructions: int = 8
    captions: int = 6
    nearest: int = 6
    command: str = field(default="", metadata=MECHANICS)
    places: Mapping[str, Mapping[str, str]] = field(default_factory=dict, metadata=MECHANICS)


def _kinds(inputs: Mapping[str, Artifact]) -> list[Kind]:
    """Of the prepared corpora that this job had."""
    return [kind for kind in KINDS if f"prepare-{kind}" in inputs]


def run_report(
    config: ReportConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: everything that was measured → `report/` and `model/`."""
    output = context.output / "report"
    output.mkdir()
    shutil.copytree(inputs["export"].path / "model", context.output / "model")
    stages = summaries(config.evaluations, config.missing, inputs, config.given)
    last = list(stages)[-1]
    corpora = {kind: dict(inputs[f"prepare-{kind}"].metrics) for kind in _kinds(inputs)}
    metrics = {
        **stages[last],
        "stages": stages,
        "corpora": corpora,
        "training": {n: dict(inputs[n].metrics) for n in config.training_stages},
    }
    markdown = markdown_table(stages)
    (output / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    (output / "table.txt").write_text(text_table(stages), encoding="utf-8")
    (output / "table.md").write_text(markdown, encoding="utf-8")
    (output / "index.html").write_text(_page(config, inputs, stages, markdown), encoding="utf-8")
    return {"groups": stages[last]["groups"]}


def _page(
    config: ReportConfig,
    inputs: Mapping[str, Artifact],
    stages: Mapping[str, Summary],
    markdown: str,
) -> str:
    from pipelines.report.corpora import place_in_words, read_corpus
    from pipelines.report.page import Page, graph_rows
    from pipelines.report.pictures import shown_pictures
    from pipelines.report.trainings import CURVES, Training, rows_seen

    mixed = {k: inputs[f"mix-{k}"].metrics for k in KINDS if f"mix-{k}" in inputs}
    trainings = []
    for name in config.training_stages:
        artifact = inputs[name]
        curves = read_curves(artifact.path / FILE_NAME, CURVES)
        seen = rows_seen(artifact.manifest.config, mixed)
        trainings.append(Training(name, artifact.metrics, curves, seen))
    corpora = []
    for kind in _kinds(inputs):
        places = {n: place_in_words(uri) for n, uri in config.places.get(kind, {}).items()}
        corpora.append(read_corpus(inputs[f"prepare-{kind}"].path, places, mixed.get(kind)))
    reconstructions, nearest = shown_pictures(
        inputs["export"].path / "model",
        inputs["prepare-pairs"].path if "prepare-pairs" in inputs else None,
        (config.reconstructions, config.captions, config.nearest),
    )
    first = inputs[config.training_stages[0]].manifest
    return Page(
        config.preset,
        config.command,
        first.git_commit or "unknown",
        first.packages,
        stages,
        trainings,
        corpora,
        graph_rows(inputs),
        markdown,
        reconstructions,
        nearest,
        [kind for kind in mixed if f"prepare-{kind}" not in inputs],
    ).render()
