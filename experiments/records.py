"""Which published runs answer which experiment's question, and what they say of its arms."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from experiments.pooled import differences
from momo_platform.sweeps.comparisons import Comparison, Verdict, family
from momo_platform.sweeps.rows import Estimate, Results, TrialRow, estimate, read_results

HERE = Path(__file__).parent
RESULTS = HERE / "results"
HISTORY = HERE / "history.json"
"""What is known of runs from before they had plans: in words, and which arms were looked at."""

RECORDS: Mapping[str, tuple[str, ...]] = {
    "flava": ("flava-codebook-3", "flava-seeds-3-5"),
    "shared_layers": ("shared_layers",),
    "model_size": ("model_size",),
    "training_stages": ("training_stages",),
    "joint_stage": ("joint_stage",),
    "gradient_schedule": ("gradient_schedule",),
    "objectives": ("objectives",),
    "shared_passes": ("shared_passes",),
    "images_in_stage3": ("images_in_stage3",),
    "initialisation": ("initialisation",),
    "mask_ratios": ("mask_ratios",),
    "modality_weights": ("modality_weights",),
    "prefixes": ("prefixes",),
    "recipe": ("recipe",),
}
"""Experiment → the names under which the runs were published that count, in the page's order. The
newest of each name is read; several are pooled by seed."""


@dataclass(frozen=True)
class Finding:
    """One experiment: its question, the runs that count (none: not run yet), their files' stems."""

    name: str
    question: str
    runs: Sequence[Results]
    records: Sequence[str]
    history: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of each of `records`: `history` in words, and the arms whose results were `looked_at` before
    more seeds were added. They are shown, but tested by the seeds that came afterwards."""

    @property
    def metric(self) -> str:
        return self.runs[0].metric

    @property
    def first(self) -> str:
        """The reference arm; empty for a search."""
        reference = self.runs[0].reference
        return reference.label if reference else ""

    @property
    def arms(self) -> list[str]:
        """The others, in the order in which the experiment names them."""
        named = [arm for run in self.runs for arm in run.definition["arms"]]
        return [arm for arm in dict.fromkeys(named) if arm != self.first]

    def delta(self, arm: str) -> Estimate | None:
        """The arm less the first one over all seeds, a seed's pairs averaged over runs."""
        seeds = differences(self.runs, arm, self.metric)
        return estimate([fmean(pairs) for pairs in seeds.values()]) if seeds else None

    @property
    def comparisons(self) -> dict[str, Comparison]:
        """Each arm with the first, as one family, by the seeds that were fixed beforehand."""
        found = {}
        for arm in self.arms:
            seeds = differences(self._tested(arm), arm, self.metric)
            if seeds:
                found[arm] = [fmean(pairs) for pairs in seeds.values()]
        margins = {run.plan.get("margin") for run in self.runs}
        planned = {arm for run in self.runs for arm in run.plan.get("comparisons", ())}
        size = len(planned | set(self.arms))
        return family(found, margins.pop() if len(margins) == 1 else None, size)

    def _tested(self, arm: str) -> Sequence[Results]:
        records = self.records or [""] * len(self.runs)
        fresh = [
            run
            for run, record in zip(self.runs, records, strict=True)
            if arm not in self.history.get(record, {}).get("looked_at", ())
        ]
        return fresh if differences(fresh, arm, self.metric) else self.runs

    def arms_with(self, verdict: Verdict) -> list[Comparison]:
        larger = self.runs[0].mode == "max"
        return [one for one in self.comparisons.values() if one.verdict(larger) == verdict]

    def rows(self, arm: str) -> list[TrialRow]:
        return [r for run in self.runs for r in run.rows if r.label == arm and r.state == "done"]

    def metrics(self, prefix: str) -> list[str]:
        names = [n for run in self.runs for row in run.rows for s in row.seeds.values() for n in s]
        return [name for name in dict.fromkeys(names) if name.startswith(prefix)]


def questions(folder: Path = HERE) -> dict[str, str]:
    """Experiment → the first line of its docstring. A file that states a hypothesis is one."""
    found = {}
    for file in sorted(folder.glob("*.py")):
        doc = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        if re.search("^Hypothesis", doc, re.MULTILINE):
            found[file.stem] = doc.partition("\n")[0]
    return found


def findings(results: Path = RESULTS) -> list[Finding]:
    """In the page's order. Raises ValueError for an experiment that `RECORDS` does not name."""
    asked, history = questions(), json.loads(HISTORY.read_text(encoding="utf-8"))
    if unnamed := set(asked) ^ set(RECORDS):
        raise ValueError(f"RECORDS in experiments/records.py and {', '.join(sorted(unnamed))}")
    found = []
    for name, records in RECORDS.items():
        files = [file for record in records if (file := _newest(results, record))]
        runs = [read_results(file) for file in files]
        stems = [file.stem for file in files]
        known = {stem: history[stem] for stem in stems if stem in history}
        found.append(Finding(name, asked[name], runs, stems, known))
    return found


def counted() -> set[str]:
    """The names of runs from which the answers are made."""
    return {record for records in RECORDS.values() for record in records}


def _newest(results: Path, record: str) -> Path | None:
    dated = re.compile(re.escape(record) + r"-\d{4}-\d\d-\d\d")
    return max(
        (f for f in results.glob(f"{record}-*.json") if dated.fullmatch(f.stem)), default=None
    )
