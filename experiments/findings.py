"""Writes docs/findings.md: what each experiment asked and what its published results say.

    python experiments/findings.py [--check]

The question is the first line of the experiment's docstring, the figures are those of
`experiments/results/`, and the answer follows from them by a rule: an arm is better or worse than
the first one where the p-value of their difference, paired by seed and corrected by Holm's
procedure over all arms of the experiment, is below 0.05; equal only within a margin that the run's
plan named before its first trial; else no difference was found. `history.json` says what is known
of runs from before there were plans. `--publish` of an experiment rewrites the page. `--check`
writes nothing and ends with 1 when the page is not what this program would write.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from experiments.pages import write_or_check
from experiments.records import RESULTS, Finding, findings
from momo_platform.sweeps.comparisons import Comparison, told_p
from momo_platform.sweeps.rows import Estimate, Results, figure

PAGE = Path(__file__).parents[1] / "docs" / "findings.md"

_POINTS = {"macro": "macro mean", "validation_mean": "mean of the validation parts"}
_LOSSES = {"total_loss": "loss of stage 3"}
_GROUPS = {"image": "pictures", "multimodal": "pairs", "text": "text"}
_HEAD = """# What was found

*Written by `python experiments/findings.py` from `experiments/results/`. Edit an experiment's
docstring, or publish a run with `--publish`, not this page.*

Each experiment trains several variants, called *arms*, on the demo's corpora with several seeds. Δ
is an arm's result less the first arm's, paired by seed, with its 95 % interval (Student's t over
seeds), which is not corrected. Where nothing else is said, Δ is in points: hundredths of the macro
mean, which is the mean of the task groups' means. Arms cost the same compute unless the experiment
says otherwise.

How the answers are made: all comparisons of an experiment, each arm with the first one, are one
family. *p* is of the paired t-test over seeds, corrected by Holm's procedure over that family.
Where it is below 0.05, the arm is better or worse. Where it is not, no difference was found, and
the interval tells how large one may still be. Arms are called equal only where the run's plan
named a margin before its first trial and two one-sided tests put the difference within it (their
90 % interval lies inside); no run here has such a plan yet. Each family errs once in twenty, and
this page has {families}. All of this is about models of 0.5 to 5 million parameters and trainings
of minutes; none of it says what holds at the paper's size.

Why each question was asked, and what its result means, is in the docstring of the experiment's
file. The rules, and what else was tried, failures included, are in
[experiments.md](experiments.md#how-results-are-judged).
"""

_MEANS = """Means over seeds, and the smallest and the largest seed. Groups and tasks are
described here, not compared: the comparisons are those above, and no verdict is drawn from
others. What the test sample adds to the seeds' spread is told where the results have it."""


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
    """In words, by the rule above, then what is known of the runs' history."""
    if not finding.runs:
        return "Not run yet."
    told = [h["history"] for h in finding.history.values()]
    if not finding.first:
        return " ".join([_of_search(finding.runs[0]), *told])
    return " ".join([*_verdicts(finding), *told])


def _verdicts(finding: Finding) -> list[str]:
    metric, first = finding.metric, f"“{finding.first}”"
    sentences = []
    for word in ("better", "worse"):
        arms = [f"{one.arm} (by {_size(one, metric)})" for one in finding.arms_with(word)]
        sentences += [f"{word.capitalize()} than {first}: {'; '.join(arms)}."] if arms else []
    if equal := finding.arms_with("equal"):
        margin = signed(equal[0].margin or 0.0, metric).lstrip("+")
        arms = "; ".join(one.arm for one in equal)
        sentences.append(f"Equal to {first} within the margin of {margin}: {arms}.")
    open_ = [one for one in finding.arms_with("") if one.estimate.low is not None]
    if open_:
        arms = "" if len(open_) == len(finding.arms) > 1 else f": {'; '.join(o.arm for o in open_)}"
        low = signed(min(one.estimate.low or 0.0 for one in open_), metric)
        high = signed(max(one.estimate.high or 0.0 for one in open_), metric)
        reach = "the interval is" if len(open_) == 1 else "the intervals reach from"
        sentences.append(f"No difference from {first} was found{arms}; {reach} {low} to {high}.")
    if single := [one.arm for one in finding.arms_with("") if one.estimate.low is None]:
        sentences.append(f"One seed can't tell from {first}: {'; '.join(single)}.")
    return sentences


def _size(one: Comparison, metric: str) -> str:
    size = signed(abs(one.estimate.mean), metric).lstrip("+")
    return f"{size}, within the margin" if one.is_equal else size


def _of_search(run: Results) -> str:
    best = run.best
    if best is None:
        return "No trial has a result."
    seeds = best.estimate.n
    largest = "largest" if run.mode == "max" else "smallest"
    return (
        f"A search of {len(run.ranked)} trials with {seeds} seed{'s' if seeds != 1 else ''} each: "
        f"the best {_POINTS.get(run.metric, run.metric)} is {figure(best.estimate.mean, 3)}, "
        f"picked as the {largest} of them, which flatters it"
        + ("; one seed can't say whether it is better than another trial's." if seeds == 1 else ".")
    )


def _deltas(finding: Finding) -> str:
    if not finding.runs or not finding.first:
        return "–"
    metric = finding.metric
    lines = [f"*{_LOSSES[metric]}; smaller is better*"] if metric in _LOSSES else []
    for arm, one in finding.comparisons.items():
        line = f"{arm}: {told(one.estimate, metric)}, p {told_p(one.adjusted)}"
        whole = finding.delta(arm)
        if whole and whole.n != one.estimate.n:
            line += f"; all {whole.n} seeds {told(whole, metric)}"
        lines.append(line)
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
    """A table of the arms' means by group with the seeds' spread, and that of single tasks."""
    metrics = [finding.metric, *finding.metrics("groups/")]
    names = {**_POINTS, **_LOSSES, **{f"groups/{g}": name for g, name in _GROUPS.items()}}
    lines = [
        f"### {finding.question}",
        "",
        f"{_script(finding)}; {_links(finding.records, results, '; ')}",
        "",
        f"| arm | seeds | {' | '.join(names.get(m, m) for m in metrics)} |",
        "|---" * (len(metrics) + 2) + "|",
    ]
    for arm in (finding.first, *finding.arms):
        values = {m: _by_seed(finding, arm, m) for m in metrics}
        cells = [_spread(list(v.values()), m) for m, v in values.items()]
        lines.append(f"| {arm} | {len(values[finding.metric])} | {' | '.join(cells)} |")
    tasks = []
    for task in finding.metrics("tasks/"):
        values = list(_by_seed(finding, finding.first, task).values())
        samples = [s for row in finding.rows(finding.first) if (s := row.sample(task))]
        beside = f" (test sample ±{fmean(samples):.3f})" if samples else ""
        short = task.removeprefix("tasks/demo/")
        tasks.append(f"`{short}` {min(values):.3f} to {max(values):.3f}{beside}")
    if tasks:
        lines += ["", f"Single tasks, “{finding.first}”, by seed: {'; '.join(tasks)}."]
    return [*lines, ""]


def _by_seed(finding: Finding, arm: str, metric: str) -> dict[str, float]:
    """Seed → value, averaged over runs that have the seed."""
    found: dict[str, list[float]] = {}
    for row in finding.rows(arm):
        for seed, numbers in row.seeds.items():
            if metric in numbers:
                found.setdefault(seed, []).append(numbers[metric])
    return {seed: fmean(values) for seed, values in found.items()}


def _spread(values: Sequence[float], metric: str) -> str:
    """'0.553 (0.545 to 0.559)'."""
    if not values:
        return "–"
    digits = 2 if metric in _LOSSES else 3
    return f"{fmean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _shared_references(found: Sequence[Finding]) -> list[str]:
    """Sentences: which experiments are compared with the same runs, or runs of equal seeds that
    differ by rounding only."""
    groups: list[tuple[dict[str, float], list[str]]] = []
    for finding in found:
        if not finding.runs or not finding.first:
            continue
        reference = finding.runs[0].reference
        assert reference is not None
        mine = {s: n[finding.metric] for s, n in reference.seeds.items() if finding.metric in n}
        for theirs, names in groups:
            if mine.keys() == theirs.keys() and all(abs(mine[s] - theirs[s]) < 0.005 for s in mine):
                names.append(finding.name)
                break
        else:
            groups.append((mine, [finding.name]))
    shared = [names for _, names in groups if len(names) > 1]
    if not shared:
        return []
    told = "; ".join(", ".join(f"`{name}`" for name in names) for names in shared)
    return [
        "",
        "Experiments that are compared with the same first arm, trained with the same seeds: "
        f"{told}. The luck of these few runs is in all of their differences alike, so their "
        "agreement is no second proof.",
    ]


def page(results: Path = RESULTS) -> str:
    """The whole page, as Markdown."""
    found = findings(results)
    families = sum(bool(finding.runs and finding.first) for finding in found)
    head = _HEAD.replace("{families}", f"{families} of them")
    lines = [head, "| question | answer | Δ (95 %) and p | results |", "|---|---|---|---|"]
    for finding in found:
        question = f"{finding.question} ({_script(finding)})"
        cells = [question, answer(finding), _deltas(finding), _links(finding.records, results)]
        lines.append(f"| {' | '.join(cells)} |")
    lines += _shared_references(found)
    lines += ["", "## Means and seeds", "", _MEANS, ""]
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
