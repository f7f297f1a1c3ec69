"""Benchmarks' own arithmetic."""

import json

from experiments.benchmarks.harness import compare, document


def test_medians_ratio_and_goals():
    row = compare("x", [1, 9, 2], "peer", [4, 1, 2], largest_ratio=1.3, largest_value=3)
    assert (row.value, row.peer_value, row.ratio, row.met) == (2, 2, 1.0, True)
    assert not compare("x", [5], "peer", [2], largest_ratio=1.3).met
    assert not compare("x", [5], "peer", [5], largest_value=4).met
    content = json.loads(document([row]))
    assert set(content) == {"machine", "commit", "date", "rows"}
    assert content["rows"][0]["goal"] == "ratio ≤ 1.3 and value ≤ 3 s"
