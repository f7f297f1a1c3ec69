"""A sweep's report: one page without outside resources, and its table as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from momo_platform.charts import COLOURS, Points, colour_class, line_chart
from momo_platform.console import duration
from momo_platform.pages import template
from momo_platform.stages import open_storage
from momo_platform.stages.storage.artifacts import Storage
from momo_platform.sweeps.charts import forest_chart, parallel_chart, shares_chart
from momo_platform.sweeps.comparisons import TEST, comparisons, told_p
from momo_platform.sweeps.rows import Results, TrialRow, figure
from momo_platform.sweeps.study import importance, plain
from momo_platform.sweeps.sweep import ARM, Sweep
from momo_platform.training.records import FILE_NAME, read_curves

PAGE, TABLE = "index.html", "table.md"
_MOST_CURVES = COLOURS
_MOST_COLUMNS = 6


def learning_curves(storage: Storage, row: TrialRow, patterns: Sequence[str]) -> dict[str, Points]:
    """`stage: record` → (step, value) of the first seed, of all stages that kept records.

    What is no longer in the storage is left out.
    """
    found: dict[str, Points] = {}
    for name, fingerprint in (next(iter(row.stages.values()), {})).items():
        manifest = storage.manifest(name, fingerprint)
        if manifest is None or FILE_NAME not in manifest.files:
            continue
        artifact = storage.artifact(name, fingerprint)
        if artifact is None:
            continue
        curves = read_curves(artifact.read(FILE_NAME), patterns)
        found |= {f"{name}: {key}": points for key, points in curves.items()}
    return found


def markdown(results: Results) -> str:
    """The table, best first: means with 95 % intervals over seeds, differences paired by seed with
    their raw intervals and, beside them, p-values corrected for the family of comparisons."""
    reference, shown = results.reference, list(results.shown)
    compared = comparisons(results)
    head = ["trial", "seeds", *shown]
    if reference is not None:
        head += [f"Δ {results.metric} against {reference.label}", "p (Holm)"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in results.ranked:
        cells = [row.label, str(len(row.seeds)), *(row.told(m) for m in shown)]
        if reference is not None:
            one = compared.get(row.label)
            cells += [str(one.estimate), told_p(one.adjusted)] if one else ["–", "–"]
        lines.append("| " + " | ".join(cells) + " |")
    for row in results.rows:
        if row.state != "done":
            told = row.cause if row.error else f"at step {row.steps}"
            lines.append(
                "| " + " | ".join([row.label, f"{row.state}: {told}"]) + " |" * (len(head) - 1)
            )
    if best := results.best:
        lines += ["", best.in_words(results.metric, results.mode)]
    lines += [
        "",
        f"{_told_of(results.definition['seeds'])}; best is the "
        f"{'largest' if results.mode == 'max' else 'smallest'} {results.metric}.",
        *(["", _told_of_tests(results)] if compared else []),
        "",
        f"Command: `{results.command}`; commit {results.commit[:12] or 'unknown'}; "
        f"{results.machine}; {results.created[:10]}; {duration(results.seconds)}, without what "
        "was there from earlier commands.",
    ]
    return "\n".join(lines) + "\n"


def _told_of(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"One seed, {seeds[0]}: no intervals"
    return f"Mean and 95 % interval (Student's t) over seeds {list(seeds)}"


def _told_of_tests(results: Results) -> str:
    """What the p-values are of, and what was fixed before the first trial."""
    plan, compared = results.plan, comparisons(results)
    if not compared:
        return ""
    size = max(len(plan.get("comparisons", ())), len(compared))
    lines = [
        f"Δ has its raw 95 % interval; p is of a {TEST} of {size} comparison"
        f"{'s' if size != 1 else ''}. Above 0.05 no difference was found, which is not equality."
    ]
    if plan:
        lines.append(f"Seeds and comparisons were fixed on {plan['date'][:10]}, before any trial.")
    larger = results.mode == "max"
    for word in ("better", "worse", "equal"):
        arms = [arm for arm, one in compared.items() if one.verdict(larger) == word]
        if arms and word == "equal":
            margin = figure(plan["margin"], 3)
            lines.append(
                f"Equal within the margin of {margin} (two one-sided tests, the 90 % interval lies "
                f"within it): {', '.join(arms)}."
            )
        elif arms:
            small = {arm for arm in arms if compared[arm].is_equal}
            named = [f"{arm} (within the margin)" if arm in small else arm for arm in arms]
            lines.append(f"{word.capitalize()}: {', '.join(named)}.")
    return " ".join(lines)


def write_report(results: Results, sweep: Sweep, storage_uri: str, folder: Path) -> Path:
    """Writes `report/index.html` and `report/table.md`; returns the page's path."""
    storage, output = open_storage(storage_uri), folder / "report"
    output.mkdir(exist_ok=True)
    command = sweep.command
    best = results.best
    told = command(best.row.history[-1]) if command and best else ""
    page = render(
        results,
        forest=forest(results),
        importance=shares_chart(importance(sweep, results.rows), "importance"),
        curves=_charts(storage, results.ranked, sweep.curves),
        command=told,
    )
    (output / PAGE).write_text(page, encoding="utf-8")
    (output / TABLE).write_text(markdown(results), encoding="utf-8")
    return output / PAGE


def render(
    results: Results,
    *,
    forest: str = "",
    importance: str = "",
    curves: Sequence[tuple[str, str]] = (),
    command: str = "",
) -> str:
    """The page as HTML; charts are SVGs, `command` runs the best trial alone."""
    ranked = results.ranked
    others = [m for m in results.shown if m != results.metric]
    return template(Path(__file__).parent, "report.html.jinja").render(
        results=results,
        figure=figure,
        took=duration(results.seconds),
        ranked=[_cells(results, row) for row in ranked],
        tables=[others[i : i + _MOST_COLUMNS] for i in range(0, len(others), _MOST_COLUMNS)],
        others=[row for row in results.rows if row.state != "done"],
        reference=results.reference,
        best=results.best,
        command=command,
        forest=forest,
        parallel=_parallel(results),
        importance=importance,
        curves=curves,
        colours={row.label: colour_class(i) for i, row in enumerate(ranked[:_MOST_CURVES])},
        markdown=markdown(results),
        self_told=_told_of(results.definition["seeds"]),
        tests_told=_told_of_tests(results),
    )


def _cells(results: Results, row: TrialRow) -> dict[str, Any]:
    one = comparisons(results).get(row.label)
    return {
        "label": row.label,
        "values": {m: row.estimate(m) for m in results.shown},
        "samples": {m: row.sample(m) for m in results.shown},
        "ranges": {m: (min(v), max(v)) for m in results.shown if (v := row.values(m))},
        "delta": one.estimate if one else None,
        "p": told_p(one.adjusted) if one else "–",
        "seeds": len(row.seeds),
        "took": duration(row.seconds),
        "history": row.history,
    }


def forest(results: Results) -> str:
    """Differences from the reference, a line an arm."""
    reference = results.reference
    if reference is None:
        return ""
    found = {}
    for row in results.ranked:
        delta = row.difference(reference, results.metric) if row is not reference else None
        if delta is not None:
            found[row.label] = (delta.mean, delta.low, delta.high)
    return forest_chart(found, f"difference in {results.metric} from {reference.label}")


def _parallel(results: Results) -> str:
    """An axis a parameter (arms are none), then an axis a shown metric; a line a trial."""
    lines = {}
    for row in results.ranked:
        values = {n: plain(v) for n, v in row.parameters.items() if n != ARM}
        for metric in results.shown:
            found = row.estimate(metric)
            if found is not None:
                values[metric] = found.mean
        lines[row.label] = values
    return parallel_chart(lines, "parallel coordinates")


def _charts(
    storage: Storage, ranked: Sequence[TrialRow], patterns: Sequence[str]
) -> list[tuple[str, str]]:
    """(stage: record, SVG with a line a trial)."""
    charts: dict[str, dict[str, Points]] = {}
    for row in ranked[:_MOST_CURVES]:
        for name, points in learning_curves(storage, row, patterns).items():
            charts.setdefault(name, {})[row.label] = points
    order: Mapping[str, int] = {row.label: i for i, row in enumerate(ranked)}
    return [
        (name, line_chart(series, name, colours={label: order[label] for label in series}))
        for name, series in charts.items()
    ]
