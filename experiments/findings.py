"""Writes docs/findings.md: what each experiment asked and what its published results say.

    python experiments/findings.py [--check]

The question is the first line of the experiment's docstring, the figures are those of
`experiments/results/`, and the answer follows from them by a rule: an arm is better or worse than
the first one where the 95 % interval of their difference, paired by seed, leaves 0; else no
difference is shown. `--publish` of an experiment rewrites the page. `--check` writes nothing and
ends with 1 when the page is not what this program would write.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from experiments.pages import write_or_check
from experiments.pooled import differences
from momo_platform.sweeps.rows import Estimate, Results, estimate, figure, read_results

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "findings.md"

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
    "recipe": ("recipe",),
}
"""Experiment → the names under which the runs were published that count, in the page's order. The
newest of each name is read; several are pooled by seed."""

_OLD_RATE = "Stage 2 had stage 1's learning rate here; the demo's has a quarter of it since."
_NOTES = {"training_stages": _OLD_RATE, "gradient_schedule": _OLD_RATE}
_POINTS = {"macro": "macro mean", "validation_mean": "mean of the validation parts"}
_LOSSES = {"total_loss": "loss of stage 3"}
_GROUPS = {"image": "pictures", "multimodal": "pairs", "text": "text"}
_LARGER_IS_BETTER = ("groups/", "tasks/")
_HEAD = """# What was found

*Written by `python experiments/findings.py` from `experiments/results/`. Edit an experiment's
docstring, or publish a run with `--publish`, not this page.*

Each experiment trains several variants, called *arms*, on the demo's corpora with several seeds. Δ
is an arm's result less the first arm's, paired by seed, with its 95 % interval (Student's t over
seeds). Where nothing else is said, Δ is in points: hundredths of the macro mean, which is the mean
of the task groups' means. Arms cost the same compute unless the experiment says otherwise.

How the answers are made: where the interval leaves 0, the arm is better or worse. Where it does
not, no difference was shown. That is not the same as equality: the interval tells how large the
difference may still be. Intervals are not corrected for the number of comparisons, so about one in
twenty leaves 0 by chance. All of this is about models of 0.5 to 5 million parameters and trainings
of minutes; none of it says what holds at the paper's size.

Why each question was asked, and what its result means, is in the docstring of the experiment's
file. What else was tried, failures included, is in [experiments.md](experiments.md).
"""


@dataclass(frozen=True)
class Finding:
    """One experiment: its question, the runs that count (none: not run yet), their files' stems."""

    name: str
    question: str
    runs: Sequence[Results]
    records: Sequence[str]

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

    def delta(self, arm: str, metric: str) -> Estimate | None:
        """The arm less the first one, a seed's pairs averaged over runs."""
        seeds = differences(self.runs, arm, metric)
        return estimate([fmean(pairs) for pairs in seeds.values()]) if seeds else None

    def metrics(self, prefix: str) -> list[str]:
        names = [n for run in self.runs for row in run.rows for s in row.seeds.values() for n in s]
        return [name for name in dict.fromkeys(names) if name.startswith(prefix)]

    def is_better(self, metric: str, delta: Estimate) -> bool | None:
        """None where the interval holds 0, or there is none."""
        if delta.low is None or delta.high is None or delta.low <= 0 <= delta.high:
            return None
        larger = metric.startswith(_LARGER_IS_BETTER) or self.runs[0].mode == "max"
        return (delta.mean > 0) == larger


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
    asked = questions()
    if unnamed := set(asked) ^ set(RECORDS):
        raise ValueError(f"RECORDS in experiments/findings.py and {', '.join(sorted(unnamed))}")
    found = []
    for name, records in RECORDS.items():
        files = [file for record in records if (file := _newest(results, record))]
        runs = [read_results(file) for file in files]
        found.append(Finding(name, asked[name], runs, [file.stem for file in files]))
    return found


def counted() -> set[str]:
    """The names of runs from which the answers are made."""
    return {record for records in RECORDS.values() for record in records}


def _newest(results: Path, record: str) -> Path | None:
    dated = re.compile(re.escape(record) + r"-\d{4}-\d\d-\d\d")
    return max(
        (f for f in results.glob(f"{record}-*.json") if dated.fullmatch(f.stem)), default=None
    )


def signed(value: float, metric: str) -> str:
    """'+1.7' points, or '+0.14' of a loss; another decimal where it would read 0.0."""
    value, digits = (value, 2) if metric in _LOSSES else (value * 100, 1)
    if abs(value) < 0.5 * 10**-digits:
        digits += 1
    text = f"{value:+.{digits}f}"
    return "0" if not float(text) else text.replace("-", "−")


def told(delta: Estimate | None, metric: str) -> str:
    """'+1.7 (+0.5 to +2.9)'."""
    if delta is None:
        return "–"
    mean = signed(delta.mean, metric)
    if delta.low is None or delta.high is None:
        return f"{mean} (one seed)"
    return f"{mean} ({signed(delta.low, metric)} to {signed(delta.high, metric)})"


def answer(finding: Finding) -> str:
    """In words, by the rule above: on the whole, then the groups where an interval leaves 0."""
    if not finding.runs:
        return "Not run yet."
    if not finding.first:
        return _of_search(finding.runs[0])
    metric, first = finding.metric, f"“{finding.first}”"
    better, worse = _beyond_noise(finding, metric)
    sentences = [
        f"{word} than {first}: {'; '.join(arms)}."
        for word, arms in (("Better", better), ("Worse", worse))
        if arms
    ]
    for seeds, arms in _undecided(finding, metric).items():
        shown = f"shown by {seeds} seed{'s' if seeds != 1 else ''}"
        if len(arms) == len(finding.arms) > 1:
            sentences.append(f"No difference from {first} {shown} for any other arm.")
        else:
            sentences.append(f"No difference from {first} {shown}: {'; '.join(arms)}.")
    whole = len(sentences)
    for group in finding.metrics("groups/"):
        name = _GROUPS.get(group.removeprefix("groups/"), group)
        for word, arms in zip(("better", "worse"), _beyond_noise(finding, group), strict=True):
            sentences += [f"On {name} {word}: {'; '.join(arms)}."] if arms else []
    if len(sentences) > whole:
        sentences[0] = f"On the whole {sentences[0][0].lower()}{sentences[0][1:]}"
    return " ".join([*sentences, *filter(None, [_NOTES.get(finding.name)])])


def _beyond_noise(finding: Finding, metric: str) -> tuple[list[str], list[str]]:
    """Arms that are better and that are worse, each with its size."""
    better: list[str] = []
    worse: list[str] = []
    for arm in finding.arms:
        delta = finding.delta(arm, metric)
        if delta and (verdict := finding.is_better(metric, delta)) is not None:
            size = signed(abs(delta.mean), metric).lstrip("+")
            (better if verdict else worse).append(f"{arm} (by {size})")
    return better, worse


def _undecided(finding: Finding, metric: str) -> dict[int, list[str]]:
    """Number of seeds → arms that they do not tell from the first."""
    found: dict[int, list[str]] = {}
    for arm in finding.arms:
        delta = finding.delta(arm, metric)
        if delta and finding.is_better(metric, delta) is None:
            found.setdefault(delta.n, []).append(arm)
    return found


def _of_search(run: Results) -> str:
    best = run.best
    if best is None:
        return "No trial has a result."
    seeds = best.estimate.n
    return (
        f"A search of {len(run.ranked)} trials with {seeds} seed{'s' if seeds != 1 else ''} each: "
        f"the best {_POINTS.get(run.metric, run.metric)} is {figure(best.estimate.mean, 3)}"
        + (
            ", and one seed can't say whether it is better than another trial's."
            if seeds == 1
            else "."
        )
    )


def _deltas(finding: Finding) -> str:
    if not finding.runs or not finding.first:
        return "–"
    metric = finding.metric
    lines = [f"*{_LOSSES[metric]}; smaller is better*"] if metric in _LOSSES else []
    lines += [f"{arm}: {told(finding.delta(arm, metric), metric)}" for arm in finding.arms]
    return "<br>".join(lines)


def _links(records: Sequence[str], results: Path, between: str = "<br>") -> str:
    kinds = (("table", "{}-{}.md"), ("rows", "{}-{}.json"), ("chart", "{}-{}.svg"))
    told = []
    for stem in records:
        name, date = stem[:-11], stem[-10:]
        files = [(w, f.format(name, date)) for w, f in (*kinds, ("power law", "{}-law-{}.svg"))]
        told.append(
            ", ".join(
                f"[{word}](../experiments/results/{file})"
                for word, file in files
                if (results / file).is_file()
            )
        )
    return between.join(told)


def _script(finding: Finding) -> str:
    return f"[`{finding.name}.py`](../experiments/{finding.name}.py)"


def _details(finding: Finding, results: Path) -> list[str]:
    """A table of the arms by group, and the single tasks whose interval leaves 0."""
    groups = finding.metrics("groups/")
    name = _POINTS.get(finding.metric, _LOSSES.get(finding.metric, finding.metric))
    words = [_GROUPS.get(g.removeprefix("groups/"), g) for g in groups]
    lines = [
        f"### {finding.question}",
        "",
        f"{_script(finding)}; {_links(finding.records, results, '; ')}",
        "",
        f"| less “{finding.first}” | seeds | {' | '.join([name, *words])} |",
        "|---" * (len(groups) + 3) + "|",
    ]
    tasks, compared = [], 0
    for arm in finding.arms:
        deltas = {m: finding.delta(arm, m) for m in (finding.metric, *groups)}
        cells = [_bold(finding, metric, delta) for metric, delta in deltas.items()]
        seeds = max((d.n for d in deltas.values() if d), default=0)
        lines.append(f"| {arm} | {seeds} | {' | '.join(cells)} |")
        for task in finding.metrics("tasks/"):
            delta = finding.delta(arm, task)
            if delta is None:
                continue
            compared += 1
            if finding.is_better(task, delta) is not None:
                short = task.removeprefix("tasks/")
                tasks.append(f"- {arm}: `{short}` {told(delta, task)}")
    lines.append("")
    if tasks:
        leave = "leaves" if len(tasks) == 1 else "leave"
        lines += [
            f"Of {compared} differences on single tasks {len(tasks)} {leave} 0; by chance about "
            f"{max(1, round(compared / 20))} would:",
            "",
            *tasks,
            "",
        ]
    return lines


def _bold(finding: Finding, metric: str, delta: Estimate | None) -> str:
    text = told(delta, metric)
    return f"**{text}**" if delta and finding.is_better(metric, delta) is not None else text


def page(results: Path = RESULTS) -> str:
    """The whole page, as Markdown."""
    found = findings(results)
    lines = [_HEAD, "| question | answer | Δ (95 %) | results |", "|---|---|---|---|"]
    for finding in found:
        question = f"{finding.question} ({_script(finding)})"
        cells = [question, answer(finding), _deltas(finding), _links(finding.records, results)]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## By group of tasks", "", "Bold: the interval leaves 0.", ""]
    for finding in found:
        if finding.runs and finding.first:
            lines += _details(finding, results)
    used = {stem for finding in found for stem in finding.records}
    if other := [stem for stem in _sweeps(results) if stem not in used]:
        lines += [
            "## Other records",
            "",
            "Earlier and repeated runs, which count nowhere above.",
            "",
        ]
        lines += [f"- {stem}: {_links([stem], results)}" for stem in other]
        lines.append("")
    return "\n".join(lines)


def _sweeps(results: Path) -> list[str]:
    return sorted(
        file.stem
        for file in results.glob("*.json")
        if '"definition"' in file.read_text(encoding="utf-8")
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 1 for a stale page with `--check`."""
    return write_or_check(PAGE, page, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
