"""Benchmarks' own arithmetic, turns, processes and command line."""

import json
import os
import subprocess
import sys

import pytest

from experiments.benchmarks.harness import compare, document, in_a_process, in_turn, main


def test_medians_ratio_and_goals():
    row = compare("x", [1, 9, 2], "peer", [4, 1, 2], largest_ratio=1.3, largest_value=3)
    assert (row.value, row.peer_value, row.ratio, row.met) == (2, 2, 1.0, True)
    assert not compare("x", [5], "peer", [2], largest_ratio=1.3).met
    assert not compare("x", [5], "peer", [5], largest_value=4).met
    content = json.loads(document([row]))
    assert set(content) == {"machine", "commit", "date", "rows"}
    assert content["rows"][0]["goal"] == "ratio ≤ 1.3 and value ≤ 3 s"


def test_calls_take_turns_and_warm_ups_do_not_count(capsys):
    done = []

    def call(name):
        done.append(name)
        return float(len(done))

    found = in_turn(2, {n: lambda n=n: call(n) for n in "ab"}, "turns", warm_ups=1)
    assert done == list("ababab")
    assert found == {"a": [3.0, 5.0], "b": [4.0, 6.0]}
    assert capsys.readouterr().err.splitlines()[-1] == "turns 2/2: a 5, b 6"


def doubled_there(number):
    if number < 0:
        raise ValueError("below 0")
    return {"process": os.getpid(), "doubled": 2 * number}


def test_a_function_runs_in_a_process_of_its_own():
    found = in_a_process(doubled_there, 4)
    assert found["doubled"] == 8
    assert found["process"] != os.getpid()
    with pytest.raises(subprocess.CalledProcessError, match="doubled_there"):
        in_a_process(doubled_there, -1)


def test_the_command_runs_the_parts_asked_for_and_judges_goals(monkeypatch, capsys):
    def part(value):
        return lambda quick: [compare("x", [value], "peer", [1], largest_ratio=1.0 + quick)]

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments])
        code = main("What it asks.", {"slow": part(2), "fast": part(1)}, lambda: {"more": 1})
        return code, json.loads(capsys.readouterr().out)

    code, content = run()
    assert (code, [row["met"] for row in content["rows"]]) == (1, [False, True])
    assert content["more"] == 1
    assert run("--quick")[0] == 0
    code, content = run("--only", "fast")
    assert (code, [row["value"] for row in content["rows"]]) == (0, [1])
