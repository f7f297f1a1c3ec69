"""Results by task → rows, group averages, deltas against other runs, and their tables."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from momo_platform.stages import UserError
from pipelines.evaluation.tasks import GROUPS, Task
from pipelines.report.seeds import told

Summary = dict[str, Any]
FEW = 100
"""Test examples below which a figure says little: it has a note and enters no mean."""
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


def summarise(
    tasks: Sequence[Task],
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


def _row(task: Task, found: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
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


def text_table(models: Mapping[str, Summary]) -> str:
    """For a terminal: a row a task, a column a model, then the interval of the last model that has
    it, test examples, chance, the untrained model and the baseline; averages are the last model's.
    """
    final = list(models.values())[-1]
    names = {name: name.partition("-")[0] if len(models) > 1 else name for name in models}
    if len(set(names.values())) < len(names):
        names = {name: name for name in models}
    widths = {name: max(9, len(short) + 2) for name, short in names.items()}
    rows = {task: row for m in models.values() for task, row in m["tasks"].items()}
    wide = max((len(task) for task in rows), default=4) + 2
    head = f"{'task':<{wide}}{'group':<12}"
    head += "".join(f"{s:>{widths[n]}}" for n, s in names.items())
    head += f"{'95 %':>13}{'n':>7}{'chance':>8}{'untrained':>11}{'baseline':>10}  method"
    lines = [head, "-" * len(head)]
    for name, row in rows.items():
        values = "".join(
            f"{m['tasks'][name]['value']:>{widths[n]}.3f}"
            if name in m["tasks"]
            else f"{'–':>{widths[n]}}"
            for n, m in models.items()
        )
        line = f"{name:<{wide}}{row['group']:<12}{values}  {row['low']:.3f}–{row['high']:.3f}"
        line += f"{row['n']:>7}{_cell(row['chance']):>8}{_cell(row['untrained']):>11}"
        if row["baseline"] is not None:
            beats = " (below)" if row["high"] < row["baseline"] else ""
            line += f"{row['baseline']:>10.3f}  {row['baseline_method']}{beats}"
        lines.append(f"{line}  {row['note']}".rstrip())
    for group, value in final["groups"].items():
        if value is not None:
            done, of = final["covered"][group]
            lines.append(f"mean, {group}: {value:.3f} ({done} of {of} tasks)")
    if rows:
        lines.append("95 %: of the choice of test examples; another seed moves a value too")
    if any(row["note"] for row in rows.values()):
        lines.append(f"tasks with fewer than {FEW} examples enter no mean")
    if limits := sorted({row["limit"] for row in rows.values() if row["limit"]}):
        lines.append(f"a quick look: at most {', '.join(map(str, limits))} examples of each part")
    for name, reason in final["not_available"].items():
        lines.append(f"{name}: not available, {reason}")
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def markdown_table(
    models: Mapping[str, Summary], others: Mapping[str, Mapping[str, float]] | None = None
) -> str:
    """A column a model with 95 % intervals; test examples, chance, the untrained model and the
    baseline; averages with what they cover; deltas of every model against each of `others` over
    their common tasks; what is not available and why."""
    names = list(models)
    asked = dict.fromkeys(t for m in models.values() for t in (*m["tasks"], *m["not_available"]))
    known = {t: row for m in models.values() for t, row in m["tasks"].items()}
    head = ["task", "group", "metric", "n", *names, "chance", "untrained", "baseline"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for task in (t for t in asked if t in known):
        row = known[task]
        cells = []
        for model in models.values():
            found = model["tasks"].get(task)
            cells.append(
                f"{found['value']:.3f} ({found['low']:.3f}–{found['high']:.3f})" if found else "–"
            )
        method = f" {row['baseline_method']}" if row["baseline"] is not None else ""
        baseline = _cell(row["baseline"]) + method
        counted = f"{row['n']} ({row['note']})" if row["note"] else str(row["n"])
        start = [task, row["group"], row["metric"], counted]
        end = [_cell(row["chance"]), _cell(row["untrained"]), baseline]
        lines.append("| " + " | ".join([*start, *cells, *end]) + " |")
    for group in GROUPS:
        if not any(m["covered"][group][1] for m in models.values()):
            continue
        cells = [
            "**{}** ({} of {})".format(_cell(m["groups"][group]), *m["covered"][group])
            for m in models.values()
        ]
        lines.append(
            "| " + " | ".join([f"**mean, {group}**", "", "", "", *cells, "", "", ""]) + " |"
        )
    for label, values in (others or {}).items():
        found = [deltas(m, values) for m in models.values()]
        for group in GROUPS:
            if any(group in d for d in found):
                cells = [
                    f"{d[group]['delta']:+.3f} ({d[group]['tasks']} common)" if group in d else "–"
                    for d in found
                ]
                lines.append(
                    "| "
                    + " | ".join([f"Δ against {label}, {group}", "", "", "", *cells, "", "", ""])
                    + " |"
                )
    if known:
        lines += ["", told(known)]
    if any(row["note"] for row in known.values()):
        lines += ["", f"Tasks with fewer than {FEW} test examples enter no mean and no Δ."]
    limits = sorted({row["limit"] for row in known.values() if row["limit"]})
    if limits:
        shown = ", ".join(map(str, limits))
        lines += [
            "",
            f"A quick look: at most {shown} examples of each part (`--limit`); not compared.",
        ]
    gone = [(t, n, m["not_available"][t]) for n, m in models.items() for t in m["not_available"]]
    if gone:
        lines += ["", "Not available:", ""]
        reasons: dict[tuple[str, str], list[str]] = {}
        for task, name, reason in gone:
            reasons.setdefault((task, reason), []).append(name)
        for (task, reason), which in reasons.items():
            of = "" if len(which) == len(names) else f" ({', '.join(which)})"
            lines.append(f"- {task}{of}: {reason}")
    return "\n".join(lines) + "\n"
