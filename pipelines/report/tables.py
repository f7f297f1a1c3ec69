"""Summaries as tables, for a terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipelines.evaluation.scores import FEW, Summary, deltas, verdict
from pipelines.evaluation.tasks import GROUPS
from pipelines.report.seeds import told


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
        line = f"{name:<{wide}}{row['group']:<12}{values}  {_interval(row):<11}"
        line += f"{row['n']:>7}{_cell(row['chance']):>8}{_cell(row['untrained']):>11}"
        if row["baseline"] is not None:
            beats = " (below)" if verdict(row) == "bad" else ""
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


def _interval(row: Mapping[str, Any]) -> str:
    return "no interval" if row["low"] is None else f"{row['low']:.3f}–{row['high']:.3f}"


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
            cells.append(f"{found['value']:.3f} ({_interval(found)})" if found else "–")
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
    return "\n".join([*lines, *_not_available(models)]) + "\n"


def _not_available(models: Mapping[str, Summary]) -> list[str]:
    """A line a task and reason, with the models that it is of where others have the task."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for name, model in models.items():
        for task, reason in model["not_available"].items():
            reasons.setdefault((task, reason), []).append(name)
    lines = ["", "Not available:", ""] if reasons else []
    for (task, reason), which in reasons.items():
        of = "" if len(which) == len(models) else f" ({', '.join(which)})"
        lines.append(f"- {task}{of}: {reason}")
    return lines
