"""Runs side by side: what their configs differ in, their metrics, their learning curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from momo_platform.charts import Points, colour_class, line_chart
from momo_platform.pages import template
from momo_platform.stages import UserError
from momo_platform.stages.catalog import Catalog
from momo_platform.stages.manifest import Manifest
from momo_platform.sweeps.folder import RESULTS, sweep_folder
from momo_platform.sweeps.rows import read_results
from momo_platform.sweeps.sweep import numbers
from momo_platform.training.records import FILE_NAME, read_curves

_ABSENT = "–"


@dataclass(frozen=True)
class ComparedRun:
    """One artifact with all that it was made from: field → value, metric → number, curves."""

    label: str
    config: Mapping[str, str]
    metrics: Mapping[str, float]
    curves: Mapping[str, Points] = field(default_factory=dict)


def read_run(catalog: Catalog, text: str) -> ComparedRun:
    """`[LABEL=]PLACE`: an artifact as `Catalog.find` takes it (a report, a trial's scores, an
    exported model, `runs/latest`), or `SWEEP:TRIAL[:SEED]` for one trial of a sweep.

    Raises UserError for anything else.
    """
    label, equals, place = text.partition("=")
    if not equals or ":" in label or "/" in label or Path(text).exists():
        label, place = "", text
    manifest = _of_sweep(catalog, place) or catalog.find(place)
    config: dict[str, str] = {}
    curves: dict[str, Points] = {}
    for one in catalog.upstream(manifest):
        config |= {f"{one.stage}: {path}": told for path, told in _flat(one.config).items()}
        if FILE_NAME in one.files:
            artifact = catalog.storage.artifact(one.stage, one.fingerprint)
            found = read_curves(artifact.read(FILE_NAME), ["loss/*"]) if artifact else {}
            curves |= {f"{one.stage}: {key}": points for key, points in found.items()}
    short = f"{manifest.stage}/{manifest.fingerprint[:6]}"
    return ComparedRun(
        label or (place if ":" in place else short), config, _metrics(catalog, manifest), curves
    )


def _of_sweep(catalog: Catalog, place: str) -> Manifest | None:
    name, colon, rest = place.partition(":")
    if not colon or name in ("s3", "gs", "file"):
        return None
    root = catalog.storage.local_root
    file = sweep_folder(catalog.storage, name) / RESULTS
    if not file.is_file():
        finished = sorted(p.parent.name for p in file.parents[1].glob(f"*/{RESULTS}"))
        there = ", ".join(finished) or "none"
        raise UserError(f"{place}: no finished sweep {name} in {root}; there are {there}")
    results = read_results(file)
    trial, _, seed = rest.rpartition(":") if rest.rpartition(":")[2].isdigit() else (rest, "", "")
    rows = [row for row in results.rows if row.label == trial]
    if not rows or not rows[0].stages:
        known = ", ".join(row.label for row in results.rows if row.stages)
        raise UserError(f"{place}: sweep {name} has no finished trial {trial!r}; it has {known}")
    stages = rows[0].stages
    seed = seed or next(iter(stages))
    if seed not in stages:
        raise UserError(f"{place}: trial {trial!r} has seeds {', '.join(stages)}")
    last = list(stages[seed].items())[-1]
    if last not in catalog.by_key:
        raise UserError(f"{place}: {'/'.join(last)} is no longer in {catalog.storage.uri}")
    return catalog.by_key[last]


def _flat(config: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(config, Mapping):
        return {prefix.rstrip("."): json.dumps(config, ensure_ascii=False)}
    found: dict[str, str] = {}
    for key, value in config.items():
        found |= _flat(value, f"{prefix}{key}.")
    return found


def _metrics(catalog: Catalog, manifest: Manifest) -> dict[str, float]:
    """A report's tasks and group means, or the artifact's own numbers."""
    if "report/metrics.json" in manifest.files:
        artifact = catalog.storage.artifact(manifest.stage, manifest.fingerprint)
        if artifact is not None:
            values = json.loads(artifact.read("report/metrics.json"))
            tasks = {name: row["value"] for name, row in values["tasks"].items()}
            return numbers({"groups": values["groups"], "tasks": tasks})
    return numbers(manifest.metrics)


def differing(runs: Sequence[ComparedRun]) -> list[tuple[str, list[str]]]:
    """(field, its value in each run) of the fields that are not the same in all."""
    names = dict.fromkeys(name for run in runs for name in run.config)
    rows = [(name, [run.config.get(name, _ABSENT) for run in runs]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def markdown(runs: Sequence[ComparedRun]) -> str:
    """Two tables: fields that differ, then all metrics; a column a run."""
    head = " | ".join(run.label for run in runs)
    rule = "|" + "---|" * (len(runs) + 1)
    lines = [f"| field | {head} |", rule]
    rows = differing(runs)
    lines += [f"| {name} | " + " | ".join(values) + " |" for name, values in rows]
    if not rows:
        lines.append("| nothing differs |" + " |" * len(runs))
    lines += ["", f"| metric | {head} |", rule]
    for name in dict.fromkeys(name for run in runs for name in run.metrics):
        cells = [f"{run.metrics[name]:.4g}" if name in run.metrics else _ABSENT for run in runs]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def page(runs: Sequence[ComparedRun]) -> str:
    """The same with learning curves, as HTML without outside resources."""
    names = dict.fromkeys(name for run in runs for name in run.curves)
    order = {run.label: index for index, run in enumerate(runs)}
    charts = [
        (name, line_chart({r.label: r.curves[name] for r in runs if name in r.curves}, name, order))
        for name in names
    ]
    metrics = dict.fromkeys(name for run in runs for name in run.metrics)
    return template(Path(__file__).parent, "compare.html.jinja").render(
        runs=runs,
        colours=[colour_class(index) for index in range(len(runs))],
        differing=differing(runs),
        metrics=[(n, [r.metrics.get(n) for r in runs]) for n in metrics],
        charts=charts,
    )
