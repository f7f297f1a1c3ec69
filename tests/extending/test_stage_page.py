"""docs/extending/stage.md, followed literally: its stages run, and its command."""

import importlib
import json
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from extending.pages import PAGES, lay_out
from prepared_rows import artifact, prepared

from momo_platform.stages import Context, UserError, make_plan, open_storage
from pipelines.presets import PRESETS
from tests.platform.stages.making import make

TEXT = "the cat sees\n\nthe dog and the cat\n"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The page's files, laid out in a folder that can be imported from."""
    paths = lay_out("stage.md", tmp_path)
    assert {p.parent for p in paths} == {tmp_path / "own"}
    (tmp_path / "notes.txt").write_text(TEXT)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [n for n in sys.modules if n.partition(".")[0] == "own"]:
        del sys.modules[name]


def actions(target, storage):
    return {e.name: e.action for e in make_plan([target], storage).entries}


def test_its_stages_run_once_for_a_config_and_a_content(own):
    graph, words = (importlib.import_module(f"own.{name}") for name in ("graph", "words"))
    storage, file = open_storage(own / "runs"), own / "notes.txt"
    target = graph.word_counts(file)
    assert actions(target, storage) == {"lines": "run", "word-counts": "run"}
    make(storage, target)
    made = storage.artifact("word-counts", make_plan([target], storage)["word-counts"].fingerprint)
    assert json.loads((made.path / "counts.json").read_text()) == {"the": 3, "cat": 2}
    assert made.metrics == {"words": 2, "left_out": 3}
    again = file.rename(own / "moved.txt")
    assert actions(graph.word_counts(again), storage) == {
        "lines": "cached",
        "word-counts": "cached",
    }
    rare = graph.word_counts(again, words.CountConfig(least=1))
    assert actions(rare, storage) == {"lines": "cached", "word-counts": "run"}
    again.write_text("another")
    assert actions(graph.word_counts(again), storage) == {"lines": "run", "word-counts": "run"}
    with pytest.raises(UserError, match=r"notes.txt: no such file"):
        graph.word_counts(file)
    again.write_text("\n")
    with pytest.raises(UserError, match="no line has a word"):
        make(storage, graph.word_counts(again))


def test_its_stage_on_momos_texts_is_planned_with_them_and_reads_their_rows(own):
    captions = importlib.import_module("own.captions")
    target = captions.text_lengths(PRESETS["smoke"]())
    storage = open_storage(own / "runs")
    assert list(actions(target, storage)) == ["corpora", "prepare-text", "text-lengths"]
    (own / "output").mkdir()
    rows = {"text": ["four", "näh"], "split": ["test", "train"]}
    text = artifact(prepared(own / "rows", rows))
    context = Context(own / "output", own, target.name, "0" * 12, "attempt")
    metrics = target.run(target.config, {"text": text}, context)
    assert metrics == {"rows": 2, "mean_length": 3.5}
    assert pq.read_table(own / "output" / "lengths.parquet")["length"].to_pylist() == [4, 3]


def test_its_command_plans_and_runs(own):
    lines = (PAGES / "stage.md").read_text().splitlines()
    commands = [
        line.partition("#")[0].split() for line in lines if line.startswith("python -m own")
    ]
    paths = os.pathsep.join(p for p in sys.path if p)
    said = []
    for _, *arguments in commands:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=own,
            env={**os.environ, "PYTHONPATH": paths, "RAY_ADDRESS": ""},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert [word in said[0] for word in ("never run", '"the"')] == [True, False]
    assert '"the": 3' in said[1]
    assert "config.least 2 → 5" in said[2]
    assert said[2].rstrip().endswith("{}")
