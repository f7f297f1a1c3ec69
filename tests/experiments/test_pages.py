"""Pages in docs/ that programs write from results: up to date, and true to the results."""

import re

import pytest

from experiments import findings, records
from experiments.benchmarks import publish
from experiments.benchmarks.harness import compare, document
from momo_platform.sweeps.rows import Results, Row


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
        Row(name, name, {}, [], "done", {str(s): {"macro": v} for s, v in enumerate(values)})
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
