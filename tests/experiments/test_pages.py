"""Pages in docs/ that programs write from results: up to date, and true to the results."""

import pytest

from experiments.benchmarks import publish
from experiments.benchmarks.harness import compare, document


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
