"""Runs side by side."""

import pytest

from experiments.compare import main
from momo_platform.stages import UserError, open_storage
from momo_platform.stages.catalog import Catalog
from momo_platform.sweeps.compare import differing, markdown, page, read_run

BEST, WORST = "pages:quality=0.8 steps=5", "pages:quality=0.2 steps=6:1"


@pytest.fixture(scope="module")
def catalog(finished):
    return Catalog(open_storage(str(finished[0] / "runs")))


def test_trials_of_a_sweep_show_what_differs(catalog):
    runs = [read_run(catalog, f"best={BEST}"), read_run(catalog, WORST)]
    assert [run.label for run in runs] == ["best", WORST]
    assert dict(differing(runs)) == {
        "toy: quality": ["0.8", "0.2"],
        "toy: seed": ["0", "1"],
        "toy: steps": ["5", "6"],
    }
    assert runs[0].metrics == {"score": 0.8, "nested/double": 1.6}
    assert list(runs[1].curves) == ["toy: loss/toy"]
    assert len(runs[1].curves["toy: loss/toy"]) == 6
    table = markdown(runs)
    assert "| toy: quality | 0.8 | 0.2 |" in table
    assert "| score | 0.8 | 0.21 |" in table
    shown = page(runs)
    assert shown.count("<polyline") == 2
    assert "toy: quality" in shown


def test_an_artifact_is_a_run_too(catalog):
    score = next(m for m in catalog.manifests if m.stage == "toy")
    run = read_run(catalog, f"toy/{score.fingerprint}")
    assert run.label == f"toy/{score.fingerprint[:6]}"
    assert differing([run, run]) == []
    assert "nothing differs" in markdown([run, run])


@pytest.mark.parametrize(
    "text, words",
    [
        ("pages:quality=7", "no finished trial 'quality=7'; it has quality=0.2 steps=5"),
        (f"{BEST}:9", "has seeds 0, 1"),
        ("none:x", "no finished sweep none in .*; there are pages"),
        ("tyo", r"has no artifact tyo; did you mean toy\? It has"),
    ],
)
def test_what_is_not_there_is_told(catalog, text, words):
    with pytest.raises(UserError, match=words):
        read_run(catalog, text)


def test_the_command_prints_tables_and_writes_the_page(finished, tmp_path, capsys):
    storage = ["--storage", str(finished[0] / "runs")]
    file = tmp_path / "side.html"
    assert main([BEST, WORST, *storage, "--html", str(file)]) == 0
    assert "| toy: quality | 0.8 | 0.2 |" in capsys.readouterr().out
    assert "<svg" in file.read_text()
    assert main([BEST, WORST, *storage, "--html", str(tmp_path / "no" / "x.html")]) == 2
    assert "x.html: No such file or directory; give another file" in capsys.readouterr().err
    assert main([BEST, *storage]) == 2
    assert "at least two runs" in capsys.readouterr().err
    assert main([BEST, BEST, *storage]) == 2
    assert "two runs have one name" in capsys.readouterr().err
