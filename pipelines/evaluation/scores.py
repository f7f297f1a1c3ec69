"""Results by task → rows, group averages and deltas against other runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from momo_platform.stages import Artifact, UserError
from pipelines.evaluation.tasks import GROUPS, TASKS, EvaluationTask

Summary = dict[str, Any]
FEW = 100
"""Test examples below which a figure says little: it has a note and enters no mean."""
_LESS_IS_BETTER = ("median_rank", "loss", "perplexity")
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    # FLAVA's own figures (arXiv 2112.04482): 241M parameters, 70M pairs.
    "flava-paper": {
        "multimodal/coco_image_to_text_r1": 0.427,
        "multimodal/coco_text_to_image_r1": 0.384,
        "multimodal/flickr30k_image_to_text_r1": 0.677,
        "multimodal/flickr30k_text_to_image_r1": 0.652,
        "multimodal/vqav2": 0.728,
        "glue/sst2": 0.909,
    }
}


@dataclass(frozen=True)
class Summaries:
    """Summaries of the trained models, in order, and of the untrained one; None where it was not
    measured."""

    models: dict[str, Summary]
    untrained: Summary | None = None


def summaries(
    evaluations: Mapping[str, Mapping[str, str]],
    missing: Mapping[str, Mapping[str, str]],
    inputs: Mapping[str, Artifact],
    given: Sequence[EvaluationTask] = (),
    untrained: Mapping[str, str] = MappingProxyType({}),
) -> Summaries:
    """`evaluations`: model → task → the stage that ran it, `missing`: model → task → why not;
    `untrained`: task → the stage that ran it on the untrained model."""
    known = (*TASKS.values(), *given)
    baselines = inputs["baselines"].metrics["tasks"] if "baselines" in inputs else {}
    before = None
    if untrained:
        results = {task: inputs[node].metrics for task, node in untrained.items()}
        tasks = [t for t in known if t.name in untrained]
        before = summarise(tasks, results, {}, baselines)
        baselines = _with_untrained(baselines, before)
    found = {}
    for model, nodes in evaluations.items():
        tasks = [t for t in known if t.name in nodes or t.name in missing[model]]
        results = {task: inputs[node].metrics for task, node in nodes.items()}
        found[model] = summarise(tasks, results, missing[model], baselines)
    return Summaries(found, before)


def _with_untrained(baselines: Mapping[str, Any], before: Summary) -> dict[str, Any]:
    names = {*baselines, *before["tasks"]}
    values = {name: row["value"] for name, row in before["tasks"].items()}
    return {n: {**baselines.get(n, {}), "untrained": values.get(n)} for n in names}


def summarise(
    tasks: Sequence[EvaluationTask],
    results: Mapping[str, Mapping[str, Any]],
    missing: Mapping[str, str],
    baselines: Mapping[str, Any],
) -> Summary:
    """`results`: what each task's stage returned.

    → `tasks` {name: {group, protocol, metric, value, low, high, n, chance, note, baseline,
    untrained, values, details, …}}, `groups` {group: mean or None}, `covered` {group: [in the mean,
    asked for]}, `not_available` {name: why}. A group's mean is over the tasks that were measured on
    enough test examples; `covered` says over how many. `note` is empty unless there are few.
    `untrained`: the same protocol on the model before any training; `values`: all numbers of the
    result, with intervals and chance, as R@k and the median rank of retrieval.
    """
    rows: dict[str, Any] = {}
    absent = dict(missing)
    for task in tasks:
        found = results.get(task.name)
        if found is None:
            absent.setdefault(task.name, "was not run")
            continue
        if "not_available" in found:
            absent[task.name] = found["not_available"]
            continue
        rows[task.name] = _row(task, found, baselines.get(task.name, {}))
    groups: dict[str, float | None] = {}
    covered = {}
    for group in GROUPS:
        values = [r["value"] for r in rows.values() if r["group"] == group and not r["note"]]
        groups[group] = sum(values) / len(values) if values else None
        covered[group] = [len(values), sum(task.group == group for task in tasks)]
    return {"tasks": rows, "groups": groups, "covered": covered, "not_available": absent}


def _row(
    task: EvaluationTask, found: Mapping[str, Any], reference: Mapping[str, Any]
) -> dict[str, Any]:
    headline = found["values"][task.metric]
    baseline, count = reference.get("baseline"), found["n"]
    if baseline is None and task.baseline == "chance":
        baseline = headline["chance"]
    return {
        "group": task.group,
        "protocol": task.protocol,
        "metric": task.metric,
        **headline,
        "n": count,
        "note": note_of(count),
        "seed": found["seed"],
        "limit": found["limit"],
        "baseline": baseline,
        "baseline_method": task.baseline,
        "untrained": reference.get("untrained"),
        "licence": task.data_set.licence,
        "values": found["values"],
        "details": {**found["details"], **reference.get("details", {})},
    }


def note_of(count: int) -> str:
    """What stands beside a figure over `count` test examples."""
    if count >= FEW:
        return ""
    examples = "example" if count == 1 else "examples"
    return f"only {count} {examples}: the figure says little"


def verdict(row: Mapping[str, Any]) -> str:
    """'good' where the whole interval is better than the baseline, 'bad' where it is worse, ''
    where the two overlap or there is no baseline."""
    baseline = row.get("baseline")
    if baseline is None or row["low"] is None:
        return ""
    return _against(row, baseline)


def learnt(row: Mapping[str, Any]) -> str:
    """As `verdict`, against the untrained model."""
    untrained = row.get("untrained")
    return "" if untrained is None or row["low"] is None else _against(row, untrained)


def _against(row: Mapping[str, Any], other: float) -> str:
    above, below = row["low"] > other, row["high"] < other
    if less_is_better(row["metric"]):
        above, below = below, above
    return "good" if above else "bad" if below else ""


def less_is_better(metric: str) -> bool:
    """Of ranks and losses."""
    return metric.endswith(_LESS_IS_BETTER)


def deltas(summary: Summary, other: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """{group: {"delta": mean of summary - other over their common tasks, "tasks": how many}}.

    Tasks that were run on a limited part are left out, retrieval among fewer being easier, and so
    are those with few examples.
    """
    found = {}
    for group in GROUPS:
        rows = summary["tasks"].items()
        common = [r["value"] - other[n] for n, r in rows if _compared(r, group) and n in other]
        if common:
            found[group] = {"delta": sum(common) / len(common), "tasks": len(common)}
    return found


def _compared(row: Mapping[str, Any], group: str) -> bool:
    return row["group"] == group and not row["limit"] and not row["note"]


def read_run(name: str) -> tuple[str, dict[str, float]]:
    """`[NAME=]PLACE` → the name and its values by task.

    The place is a `metrics.json`, a folder that holds one (a report, `runs/latest`), or a published
    set of figures. Raises UserError for anything else.
    """
    label, equals, place = split_name(name)
    if place in PUBLISHED:
        return (label if equals else place), dict(PUBLISHED[place])
    path = Path(place).expanduser()
    choices = [path, path / "metrics.json", path / "report" / "metrics.json"]
    file = next((c for c in choices if c.is_file()), None)
    if file is None:
        raise UserError(
            f"--against {name}: no metrics.json there; give a report's folder, its metrics.json or "
            f"one of {', '.join(PUBLISHED)}"
        )
    try:
        tasks = json.loads(file.read_text(encoding="utf-8"))["tasks"]
        values = {t: float(row["value"]) for t, row in tasks.items() if not row.get("limit")}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--against {file}: not a report's metrics.json ({error!r})") from error
    if not equals:
        whole = file.resolve().parent
        label = whole.parent.name if whole.name == "report" else whole.name
    return label, values


def split_name(text: str) -> tuple[str, bool, str]:
    """`NAME=PLACE` → name, whether there is one, place; a path that exists is one as a whole."""
    name, equals, place = text.partition("=")
    if not equals or "/" in name or Path(text).expanduser().exists():
        return "", False, text
    return name, True, place
