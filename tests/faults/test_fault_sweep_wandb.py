"""A sweep's trials in Weights & Biases: one run each, with their settings, where they stay."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import wandb_sweep

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_trial_that_is_tried_again_is_one_run_with_its_settings(tmp_path):
    paths = [ROOT, ROOT / "platform", ROOT / "tests", ROOT / "tests" / "platform" / "sweeps"]
    done = subprocess.run(
        [sys.executable, wandb_sweep.__file__, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (folder,) = tmp_path.glob("runs/**/toys")
    runs = list((folder / "wandb").glob("offline-run-*-*"))
    assert len(runs) == 3  # two, and the failed one again
    assert len({run.name.split("-", 3)[3] for run in runs}) == 2  # by their ids
    written = [file.read_bytes() for run in runs for file in run.glob("*.wandb")]
    assert sum(b"0.53125" in text for text in written) == 1
