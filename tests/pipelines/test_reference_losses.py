"""Losses of preset `smoke` beside the committed ones: a change of what is learnt shows in a diff.

Equal to the last bit on the kind of machine that wrote them (torch's version and instruction set,
the processor's model); elsewhere sums run in another order, and losses may differ by `TOLERANCE`.
`MOMO_UPDATE_GOLDEN=1` writes them anew.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden" / "smoke-losses.json"
MADE = ("text", "pair")
STAGES = ("stage1-image", "stage2-joint", "stage3-pair")
TOLERANCE = 0.02  # relative; after 20 steps the same code is within 0.001 from machine to machine


def this_machine():
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = ("cpu family", "model", "model name")
    processor = {
        line.partition(":")[0].strip(): line.partition(":")[2].strip()
        for line in reversed(lines)
        if line.partition(":")[0].strip() in names
    }
    return {
        "torch": torch.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "processor": processor,
    }


@pytest.fixture(scope="module")
def losses(tmp_path_factory, smoke_runs):
    """Of all three stages, from a run of their own; corpora that the full run made are taken."""
    storage = tmp_path_factory.mktemp("reference") / "runs"
    for stage in ("corpora", "tokenizer", *(f"{w}-{m}" for w in ("prepare", "mix") for m in MADE)):
        if (smoke_runs / stage).is_dir():
            shutil.copytree(smoke_runs / stage, storage / stage)
    full = str(ROOT / "pipelines" / "full.py")
    command = [sys.executable, full, "--preset", "smoke", "--cluster", "local"]
    command += ["--storage", str(storage), "--until", STAGES[-1]]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {}
    for stage in STAGES:
        lines = next(storage.glob(f"{stage}/*/attempt-*/metrics.jsonl")).read_text().splitlines()
        records = [json.loads(line) for line in lines]
        found[stage] = [
            {"step": r["step"]} | {k: v for k, v in r.items() if k.startswith("loss/")}
            for r in records
            if any(k.startswith("loss/") for k in r)  # not those of held-out rows alone
        ]
    return found


def test_losses_follow_the_reference(losses):
    machine = this_machine()
    if os.environ.get("MOMO_UPDATE_GOLDEN"):
        GOLDEN.write_text(json.dumps({"machine": machine, "losses": losses}, indent=1) + "\n")
    reference = json.loads(GOLDEN.read_text())
    assert losses.keys() == reference["losses"].keys()
    exact = machine == reference["machine"]
    for stage, records in losses.items():
        expected = reference["losses"][stage]
        assert len(records) == len(expected) == 4
        for record, wanted in zip(records, expected, strict=True):
            close = wanted if exact else pytest.approx(wanted, rel=TOLERANCE)
            assert record == close, f"{stage}: losses changed; if meant: MOMO_UPDATE_GOLDEN=1"
