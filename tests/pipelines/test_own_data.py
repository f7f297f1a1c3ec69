"""From a folder of 300 captioned pictures one command trains, evaluates on it and reports."""

import json
import subprocess
import sys
from pathlib import Path

import captioned_pictures
import pytest
from prepared_rows import rows_of, rows_trained_on

from momo_platform.stages import fingerprint
from pipelines import evaluate, full
from pipelines.config import SourceOptions, no_sources
from pipelines.graph import build_graph

ROOT = Path(__file__).resolve().parents[2]
NOTE = "only 60 examples: the figure says little"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("own")
    pictures = captioned_pictures.write(root / "pictures")
    stage = "--stage3-pair.train"
    arguments = ["--preset", "smoke", "--stages", "stage3-pair", "--pair.source", str(pictures)]
    arguments += [f"{stage}.steps", "6", f"{stage}.scaling.num-workers", "0"]
    command = [sys.executable, str(ROOT / "pipelines" / "full.py"), *arguments]
    command += ["--cluster", "local", "--storage", str(root / "runs")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return root, arguments, done.stdout


def test_the_tasks_are_the_users_and_say_what_they_are_worth(trained):
    root, _, output = trained
    metrics = json.loads((root / "runs" / "latest" / "report" / "metrics.json").read_text())
    names = ("labels", "retrieval", "labels_zero_shot", "matching", "masked_words")
    assert list(metrics["tasks"]) == [f"own/{name}" for name in names]
    for row in metrics["tasks"].values():
        assert (row["n"], row["note"]) == (60, NOTE)  # a fifth of the 300
        assert row["low"] <= row["value"] <= row["high"]
    assert set(metrics["groups"].values()) == {None}  # too few for a mean
    retrieval = metrics["tasks"]["own/retrieval"]
    assert retrieval["metric"] == "mrr"
    assert retrieval["chance"] == pytest.approx(sum(1 / r for r in range(1, 61)) / 60)
    assert retrieval["baseline"] == retrieval["chance"]
    assert 0.0 < retrieval["untrained"] < 0.5
    values = retrieval["values"]
    assert {"image_to_text_r@5", "text_to_image_median_rank"} <= set(values)
    assert "image_to_text_r@10" not in values  # of 60 it would be 0.17 by chance
    assert values["image_to_text_median_rank"]["chance"] == 30.5
    labels = metrics["tasks"]["own/labels"]
    assert (labels["chance"], labels["baseline_method"]) == (0.5, "raw pixels")
    assert labels["untrained"] is not None
    for line in output.splitlines():
        if line.startswith("own/"):
            assert NOTE in line
            assert "   60 " in line
    assert "mean, " not in output


def test_nothing_of_the_demo_is_fetched_and_the_parts_are_apart(trained):
    root, _, _ = trained
    storage = root / "runs"
    assert not (storage / "corpora").exists()
    assert not list(storage.glob("*demo*"))
    rows = rows_of(storage, "prepare-pair")
    counts = {s: sum(r["split"] == s for r in rows) for s in ("test", "valid")}
    assert counts == {"test": 60, "valid": 30}
    held_out = {c for r in rows if r["split"] != "train" for c in r["captions"]}
    trained_on = rows_trained_on(storage, "pair")
    assert trained_on
    assert not held_out & {caption for row in trained_on for caption in row["captions"]}


def test_evaluate_takes_what_training_prepared(trained):
    root, arguments, _ = trained
    graph = build_graph(full.parse([*arguments, "--storage", str(root / "runs")]))
    options = evaluate.EvaluateOptions(
        model=(str(root / "runs" / "latest" / "model"),),
        preset="smoke",
        corpora={**no_sources(), "pair": SourceOptions(source=str(root / "pictures"))},
    )
    ours = evaluate.build_graph(options)
    assert fingerprint(ours["prepare-pair"]) == fingerprint(graph["prepare-pair"])
    assert "corpora" not in ours
    assert "retrieval-own-pair-latest" in ours
