"""The stage behind `pipelines/evaluate.py`: several models' results, side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from momo_platform.pages import template
from momo_platform.stages import Artifact, Context
from momo_platform.training.config import MECHANICS
from pipelines.evaluation.scores import Summary, deltas, summaries
from pipelines.evaluation.tasks import GROUPS, EvaluationTask
from pipelines.report.cells import CELLS
from pipelines.report.page import now
from pipelines.report.tables import markdown_table, text_table


@dataclass(frozen=True)
class ComparisonConfig:
    """As `ReportConfig`; `others`: values by task of the named runs to compare with."""

    evaluations: Mapping[str, Mapping[str, str]]
    missing: Mapping[str, Mapping[str, str]]
    others: Mapping[str, Mapping[str, float]]
    given: tuple[EvaluationTask, ...] = ()
    untrained: Mapping[str, str] = field(default_factory=dict, metadata={"absent_at": {}})
    command: str = field(default="", metadata=MECHANICS)


def run_comparison(
    config: ComparisonConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: metrics.json (the last model's rows on top, as a report's), table.md, table.txt and
    index.html in `report/`. Roles are names of stages, which the config tells."""
    output = context.output / "report"
    output.mkdir()
    measured = summaries(config.evaluations, config.missing, inputs, config.given, config.untrained)
    models = measured.models
    against = {
        label: {name: deltas(model, values) for name, model in models.items()}
        for label, values in config.others.items()
    }
    last = list(models.values())[-1]
    metrics = {**last, "models": models, "untrained": measured.untrained, "deltas": against}
    (output / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    table = markdown_table(models, config.others)
    (output / "table.md").write_text(table, encoding="utf-8")
    (output / "table.txt").write_text(text_table(models), encoding="utf-8")
    commit = next((a.manifest.git_commit for a in inputs.values()), None) or "unknown"
    page = comparison_page(models, against, commit, config.command)
    (output / "index.html").write_text(page, encoding="utf-8")
    return {"groups": {name: model["groups"] for name, model in models.items()}}


def comparison_page(
    models: Mapping[str, Summary], against: Mapping[str, Any], commit: str, command: str = ""
) -> str:
    """HTML without outside resources. `against`: run → model → `deltas`."""
    tasks = {name: row for m in models.values() for name, row in m["tasks"].items()}
    return template(Path(__file__).parent, "evaluation.html.jinja").render(
        models=models,
        groups=GROUPS,
        tasks=tasks,
        cells=CELLS,
        deltas=against,
        limit=max((row["limit"] for row in tasks.values()), default=0),
        commit=commit,
        command=command,
        created=now(),
        missing=[(n, t, why) for n, m in models.items() for t, why in m["not_available"].items()],
    )
