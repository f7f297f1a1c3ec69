"""The drill, and how it compares storages."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import same_bytes

DRILL = Path(__file__).with_name("drill.py")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_job_under_thirty_faults_ends_with_the_bytes_of_an_undisturbed_one(tmp_path):
    seed = os.environ.get("MOMO_TEST_SEED", "7")
    done = subprocess.run(
        [
            *(sys.executable, str(DRILL), "--seed", seed, "--faults", "30"),
            *("--folder", str(tmp_path / "drill"), "--out", str(tmp_path / "summary.json")),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (
        f"MOMO_TEST_SEED={seed}\n{done.stdout[-6000:]}{done.stderr[-2000:]}"
    )
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert len(summary["faults"]) == 30


def write_artifact(storage, files, stage="train"):
    """One finished artifact whose manifest names `files`, name → text."""
    attempt = storage / stage / "0123" / "attempt-1"
    for name, text in files.items():
        (attempt / name).parent.mkdir(parents=True, exist_ok=True)
        (attempt / name).write_text(text)
    facts = {n: {"sha256": hashlib.sha256(t.encode()).hexdigest()} for n, t in files.items()}
    manifest = {"attempt": "attempt-1", "files": facts}
    (attempt.parent / "manifest.json").write_text(json.dumps(manifest))


def test_storages_are_equal_but_for_times(tmp_path):
    for name, seconds in (("a", 1.0), ("b", 2.0)):
        record = {"step": 1, "loss/total": 0.5, "seconds_validating": seconds}
        files = {"model.bin": "weights", "metrics.jsonl": json.dumps(record) + "\n"}
        write_artifact(tmp_path / name, files | {f"tensorboard/events.{seconds}": "any"})
    assert same_bytes.differences(tmp_path / "a", tmp_path / "b") == []


def test_other_bytes_other_values_and_missing_artifacts_are_found(tmp_path):
    for name, loss in (("a", 0.5), ("b", 0.25)):
        record = {"step": 1, "loss/total": loss, "seconds_validating": loss}
        files = {"model.bin": f"weights {loss}", "metrics.jsonl": json.dumps(record) + "\n"}
        write_artifact(tmp_path / name, files)
    write_artifact(tmp_path / "b", {"table.txt": ""}, stage="report")
    assert same_bytes.differences(tmp_path / "a", tmp_path / "b") == [
        "report: in one of the two alone",
        "train/metrics.jsonl at /0/loss/total: 0.5 and 0.25",
        "train/model.bin: other bytes",
    ]
