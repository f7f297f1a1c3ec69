"""Pages in docs/ that programs write from results: up to date, and true to the results."""

import re
from dataclasses import replace

import pytest
from corrected import COUNT, corrected

from experiments import findings, records
from experiments.benchmarks import publish
from experiments.benchmarks.harness import compare, document
from momo_platform.sweeps.rows import Results, TrialRow
from pipelines.report.seeds import SPREAD


def _results(folder, name, *rows):
    (folder / name).write_text(document(rows), encoding="utf-8")


def test_the_performance_page_is_what_its_program_writes():
    assert publish.main(["--check"]) == 0


def test_a_missed_goal_and_the_newest_file_are_shown(tmp_path):
    slow = compare("retrieval: peak memory", [3000], "2 GB", [2000], unit="MB", largest_ratio=1)
    other = compare("a row without words", [9], "peer", [3], largest_value=10)
    _results(tmp_path, "evaluation-2030-01-01.json", slow, other)
    text = publish.page(tmp_path)
    assert "Of 2 goals 1 is met and 1 missed" in text
    assert "| 3,000 MB | the limit: 2,000 MB | 1.5 × | at most 1 × | **missed** | [JSON]" in text
    assert "| a row without words | 9 s | peer: 3 s | 3 × | at most 10 s | met |" in text
    better = compare("retrieval: peak memory", [1000], "2 GB", [2000], unit="MB", largest_ratio=1)
    _results(tmp_path, "evaluation-again-2030-01-02.json", better)
    text = publish.page(tmp_path)
    assert "missed" not in text.split("## ", 1)[1]
    assert "evaluation-again-2030-01-02.json" in text
    assert "evaluation-2030-01-01.json" in text  # holds the other row


def test_a_goal_within_the_runs_spread_is_met_by_the_median_only(tmp_path):
    near = compare("near", [90, 100, 110], "peer", [100, 101, 100], largest_ratio=1)
    far = compare("far", [50, 51, 52], "peer", [100, 101, 100], largest_ratio=1)
    _results(tmp_path, "evaluation-2030-01-01.json", near, far)
    text = publish.page(tmp_path)
    assert "| 1 × (0.9 to 1.1) | at most 1 × | met by the median |" in text
    assert "| 0.51 × (0.5 to 0.52) | at most 1 × | met |" in text


def test_results_of_an_unknown_benchmark_are_not_overlooked(tmp_path):
    _results(tmp_path, "teleport-2030-01-01.json", compare("x", [1], "peer", [1]))
    with pytest.raises(ValueError, match=r"teleport-2030-01-01.json: no benchmark in .*questions"):
        publish.page(tmp_path)


def test_every_worded_row_is_in_the_results():
    """A renamed row would vanish from the page without a word."""
    for benchmark in publish.BENCHMARKS:
        measured = {m.row["name"] for m in publish.newest(benchmark, publish.RESULTS)}
        assert not measured or set(benchmark.rows) <= measured, benchmark.title


def test_the_findings_page_is_what_its_program_writes():
    assert findings.main(["--check"]) == 0


def test_each_experiment_asks_a_question_that_the_page_has():
    asked = records.questions()
    assert set(asked) == set(records.RECORDS)
    assert [name for name, question in asked.items() if not question.endswith("?")] == []


def _finding(mode="max", **arms):
    """Arms whose macro by seed is given; the first is the reference."""
    rows = [
        TrialRow(name, name, {}, [], "done", {str(s): {"macro": v} for s, v in enumerate(values)})
        for name, values in arms.items()
    ]
    about = ("a", "macro", mode, "", "", "", "", 0.0, {"arms": dict.fromkeys(arms)}, ())
    return records.Finding("a", "Why?", [Results(*about, rows)], [])


def test_an_answer_calls_nothing_equal_that_was_not_shown():
    arms = {"base": (0.5, 0.6, 0.7), "up": (0.6, 0.7, 0.81), "wide": (0.4, 0.7, 0.7)}
    up = findings.answer(_finding(**arms))
    assert up == (
        "Better than “base”: up (by 10.3). "
        "No difference from “base” was found: wide; the interval is −24.8 to +24.8."
    )
    assert findings.answer(_finding("min", **arms)).startswith("Worse than “base”: up (by 10.3).")
    one = findings.answer(_finding(base=(0.5,), up=(0.9,)))
    assert one == "One seed can't tell from “base”: up."
    wide = _finding(**arms).delta("wide")
    assert findings.told(wide, "macro") == "0 (−24.8 to +24.8)"


def answers():
    """Experiment → the answer that the page of findings gives."""
    page = findings.PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]+\(\[`(\w+)\.py`\][^|]*\| ([^|]*) \|", page, re.M)
    assert set(COUNT) < {name for name, _ in rows}
    return dict(rows)


@pytest.mark.parametrize("experiment", COUNT)
def test_a_verdict_survives_correction_for_all_comparisons_of_its_experiment(experiment):
    """Three seeds and seven arms: one raw interval in a few leaves 0 by luck."""
    answer, found = answers()[experiment], corrected(experiment)
    claimed = re.findall(
        r"(?:[Bb]etter|[Ww]orse)(?: than “[^”]*”)?: ([^.]*(?:\.\d[^.]*)*)\.", answer
    )
    arms = {arm for arm in found if any(f"{arm} (by" in text for text in claimed)}
    assert arms == {arm for arm, (_, p) in found.items() if p < 0.05}


def test_only_a_runs_plan_makes_equality():
    arms = {"base": (0.5, 0.6, 0.7), "near": (0.501, 0.599, 0.7005)}
    finding = _finding(**arms)
    assert "Equal" not in findings.answer(finding)
    plan = {"margin": 0.01, "comparisons": ["near"]}
    planned = replace(finding, runs=[replace(finding.runs[0], plan=plan)])
    assert findings.answer(planned) == "Equal to “base” within the margin of 1.0: near."
    small = _finding(base=(0.5, 0.6, 0.7), near=(0.501, 0.601, 0.7005))
    small = replace(small, runs=[replace(small.runs[0], plan=plan)])
    assert findings.answer(small) == "Better than “base”: near (by 0.1, within the margin)."
    wide = replace(finding, runs=[replace(finding.runs[0], plan=plan | {"margin": 0.0001})])
    assert findings.answer(wide).startswith("No difference from “base” was found: near;")


def test_arms_that_were_looked_at_are_tested_by_fresh_seeds_alone():
    flava = next(f for f in records.findings() if f.name == "flava")
    tokens = flava.comparisons["FLAVA, equal tokens"]
    assert (tokens.estimate.n, flava.delta("FLAVA, equal tokens").n) == (3, 6)
    assert tokens.p == pytest.approx(0.0048, abs=1e-4)
    assert not flava.comparisons["FLAVA, equal compute"].differs
    assert flava.comparisons["MoMo, half rate"].estimate.n == 3


def test_the_demos_spread_is_that_of_the_records():
    flava = next(f for f in records.findings() if f.name == "flava")
    for task, ends in SPREAD.items():
        values = [v for row in flava.rows("MoMo") for v in row.values(f"tasks/{task}")]
        assert len(values) == 6
        assert (round(min(values), 3), round(max(values), 3)) == ends, task


def test_the_glossary_is_sorted_and_names_real_modules():
    root = findings.PAGE.parents[1]
    rows = re.findall(
        r"^\| \*\*(.+?)\*\* \| .+ \| \[`.+`\]\(\.\./(.+)\) \|$",
        (root / "docs" / "glossary.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert len(rows) > 50
    terms = [term.casefold() for term, _ in rows]
    assert terms == sorted(set(terms))
    assert [path for _, path in rows if not (root / path).is_file()] == []
