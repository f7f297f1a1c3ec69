"""The report stage: metrics.json, table.txt and index.html, and the exported model beside them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from momo_platform.stages import Artifact, Context
from momo_platform.training.records import FILE_NAME, read_records
from pipelines.evaluation import GROUPS, TASKS


@dataclass(frozen=True)
class ReportConfig:
    """Which preset ran and which training stages to show, in order."""

    preset: str
    training_stages: tuple[str, ...]
    reconstructions: int = 8
    captions: int = 6
    nearest: int = 6


def summarise(tasks: Mapping[str, Any], baselines: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """`{"tasks": {name: {metric, value, low, high, baseline, chance, group}}, "groups": {group:
    mean}, "covered": {group: [tasks measured, tasks there are]}}`; low and high: 95 % bootstrap."""
    rows: dict[str, Any] = {}
    for info in TASKS:
        if info.name not in tasks:
            continue
        reference = baselines.get(info.name, {})
        rows[info.name] = {
            "metric": info.metric,
            "value": tasks[info.name]["value"],
            "low": tasks[info.name]["low"],
            "high": tasks[info.name]["high"],
            "baseline": reference.get("baseline"),
            "baseline_method": info.baseline,
            "chance": reference.get("chance"),
            "group": info.group,
            "details": {**tasks[info.name]["details"], **reference.get("details", {})},
        }
    groups, covered = {}, {}
    for group in GROUPS:
        values = [r["value"] for r in rows.values() if r["group"] == group]
        groups[group] = sum(values) / len(values) if values else None
        covered[group] = [len(values), sum(info.group == group for info in TASKS)]
    return {"tasks": rows, "groups": groups, "covered": covered}


def text_table(stages: Mapping[str, Mapping[str, Any]]) -> str:
    """The table for a terminal: a row a task, a column a training stage, then the baseline."""
    final = list(stages.values())[-1]
    names = {name: name.partition("-")[0] for name in stages}
    head = f"{'task':<25}{'group':<12}" + "".join(f"{n:>9}" for n in names.values())
    lines = [head + f"{'95 %':>13}{'baseline':>10}  method", "-" * (len(head) + 37)]
    for name, row in final["tasks"].items():
        values = "".join(f"{s['tasks'][name]['value']:>9.3f}" for s in stages.values())
        baseline = row["baseline"] if row["baseline"] is not None else math.nan
        beats = "" if row["value"] > baseline else "  (below)"
        method = f"  {row['baseline_method']}{beats}"
        interval = f"  {row['low']:.3f}–{row['high']:.3f}"
        lines.append(f"{name:<25}{row['group']:<12}{values}{interval}{baseline:>10.3f}{method}")
    return "\n".join(lines)


def _curves(folder: Path) -> dict[str, list[tuple[float, float]]]:
    curves: dict[str, list[tuple[float, float]]] = {}
    for record in read_records(folder / FILE_NAME):
        for key, value in record.items():
            if key.startswith(("loss/", "gradient_cosine/")) and value is not None:
                curves.setdefault(key, []).append((record["step"], value))
    return curves


def run_report(
    config: ReportConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: everything that was measured → `report/` and `model/`."""
    from pipelines.report.page import KINDS, Training, render

    output = context.output / "report"
    output.mkdir()
    shutil.copytree(inputs["export"].path / "model", context.output / "model")
    baselines = inputs["baselines"].metrics["tasks"]
    stages = {
        name: summarise(inputs[f"evaluate-{name}"].metrics["tasks"], baselines)
        for name in config.training_stages
    }
    last = config.training_stages[-1]
    corpora = {kind: dict(inputs[f"prepare-{kind}"].metrics) for kind in KINDS}
    metrics = {
        **stages[last],
        "stages": stages,
        "not_available": inputs[f"evaluate-{last}"].metrics["not_available"],
        "corpora": corpora,
        "training": {n: dict(inputs[n].metrics) for n in config.training_stages},
    }
    (output / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    (output / "table.txt").write_text(text_table(stages), encoding="utf-8")
    trainings = [
        Training(name, inputs[name].metrics, _curves(inputs[name].path))
        for name in config.training_stages
    ]
    page = render(config, inputs, stages, trainings, metrics["not_available"])
    (output / "index.html").write_text(page, encoding="utf-8")
    return {"groups": stages[last]["groups"]}
