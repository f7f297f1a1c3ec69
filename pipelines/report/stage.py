"""The report stage: metrics.json, table.txt, table.md, index.html, and the model beside them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from momo_platform.stages import Artifact, Context
from momo_platform.training.records import FILE_NAME, read_curves
from pipelines.report.summary import Summary, markdown_table, summarise, text_table
from pipelines.tasks.registry import TASKS, Task

_DRAWN = ("loss/*", "gradient_cosine/*")


@dataclass(frozen=True)
class ReportConfig:
    """Which preset ran, which training stages to show, in order, and what was evaluated:
    `evaluations` is model → task → the stage that ran it, `missing` model → task → why not,
    `given` the tasks from the command line."""

    preset: str
    training_stages: tuple[str, ...]
    evaluations: Mapping[str, Mapping[str, str]]
    missing: Mapping[str, Mapping[str, str]]
    given: tuple[Task, ...] = ()
    reconstructions: int = 8
    captions: int = 6
    nearest: int = 6


def summaries(
    evaluations: Mapping[str, Mapping[str, str]],
    missing: Mapping[str, Mapping[str, str]],
    inputs: Mapping[str, Artifact],
    given: Sequence[Task] = (),
) -> dict[str, Summary]:
    """A summary a model."""
    baselines = inputs["baselines"].metrics["tasks"] if "baselines" in inputs else {}
    found = {}
    for model, nodes in evaluations.items():
        known = (*TASKS.values(), *given)
        tasks = [t for t in known if t.name in nodes or t.name in missing[model]]
        results = {task: inputs[node].metrics for task, node in nodes.items()}
        found[model] = summarise(tasks, results, missing[model], baselines)
    return found


def run_report(
    config: ReportConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: everything that was measured → `report/` and `model/`."""
    from pipelines.report.page import Training, prepared_of, render

    output = context.output / "report"
    output.mkdir()
    shutil.copytree(inputs["export"].path / "model", context.output / "model")
    stages = summaries(config.evaluations, config.missing, inputs, config.given)
    last = list(stages)[-1]
    corpora = {
        name.removeprefix("prepare-"): dict(inputs[name].metrics) for name in prepared_of(inputs)
    }
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
    trainings = [
        Training(name, inputs[name].metrics, read_curves(inputs[name].path / FILE_NAME, _DRAWN))
        for name in config.training_stages
    ]
    page = render(config, inputs, stages, trainings, markdown)
    (output / "index.html").write_text(page, encoding="utf-8")
    return {"groups": stages[last]["groups"]}
