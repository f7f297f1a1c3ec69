"""The benchmark for GPUs, as far as a CPU can run it: its runner, and every part at toy size."""

import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from experiments.benchmarks.gpu import BenchmarkPart, main, measure, parts
from experiments.benchmarks.gpu_parts.correct import losses
from experiments.benchmarks.gpu_parts.setting import setting
from experiments.benchmarks.gpu_parts.stages import stage_update
from experiments.benchmarks.gpu_parts.waits import Waits
from experiments.benchmarks.harness import compare
from momo.model import build_model

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "experiments" / "benchmarks" / "gpu.py"


def a_row(name):
    return compare(name, [1.0], "peer", [1.0])


def test_a_part_that_fails_or_hangs_is_recorded_and_the_next_runs():
    def broken():
        yield a_row("before the error")
        raise ValueError("no such kernel")

    def hanging():
        yield a_row("before the end")
        while True:
            time.sleep(0.01)

    def unmade(_):
        raise ImportError("no such package")

    chosen = {
        "a": BenchmarkPart(
            30, lambda _: {"broken": broken, "whole": lambda: iter([a_row("whole")])}
        ),
        "b": BenchmarkPart(
            0.3, lambda _: {"hanging": hanging, "late": lambda: iter([a_row("late")])}
        ),
        "c": BenchmarkPart(30, unmade),
        "d": BenchmarkPart(30, lambda _: {"last": lambda: iter([a_row("last")])}),
    }
    written = []
    rows, told = measure(chosen, setting(True), lambda rows, _: written.append(len(rows)))
    names = [row.name for row in rows]
    assert names[:3] == ["before the error", "whole", "before the end"]
    assert names[-1] == "last"
    assert "ValueError: no such kernel" in told["a"]["cases"]["broken"]["error"]
    assert "whole" not in told["a"]["cases"]
    assert "OutOfTime" in told["b"]["cases"]["hanging"]["error"]
    assert told["b"]["seconds"] < 5
    assert "no such package" in told["c"]["error"]
    assert told["d"].keys() == {"limit", "seconds"}
    assert written == sorted(written)
    assert {0, 1, 2, 3, len(rows)} <= set(written)


def test_the_parts_take_about_seven_minutes():
    seconds = {name: part.seconds for name, part in parts().items()}
    assert sum(seconds.values()) == pytest.approx(7 * 60, rel=0.05)
    assert list(seconds)[-1] == "trainer"


def test_what_cannot_be_run_is_told(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for arguments, words in (
        (["--only", "eagre"], "--only eagre: the parts are ceilings, losses, eager"),
        (["--only", "eager"], "no CUDA device here: run it on a GPU machine, or give --quick"),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert words in capsys.readouterr().err


def test_waits_are_counted_by_our_line(monkeypatch):
    message = "called a synchronizing CUDA operation"
    passed_on = []
    monkeypatch.setattr(warnings, "showwarning", lambda text, *_, **__: passed_on.append(str(text)))

    class Waiting(nn.Module):
        def forward(self, tokens):
            for text in (message, message, "something else"):
                warnings.warn(text, stacklevel=1)
            return tokens

    model = build_model(setting(True).model)
    model.norm = Waiting()
    ids = torch.ones(2, 4, dtype=torch.int64)
    waits = Waits()
    model.encode_text(ids, ids > 0)
    waits.start()
    model.encode_text(ids, ids > 0)
    waits.stop()
    model.encode_text(ids, ids > 0)
    assert waits.total == 2
    (line,) = waits.by_line
    assert line.startswith("momo/")
    assert "something else" in passed_on


def test_an_update_is_the_trainers_and_changes_the_weights():
    update = stage_update(setting(True), 3, chunk=4, checkpointing="blocks")
    before = {n: p.detach().clone() for n, p in update.task.named_parameters() if p.requires_grad}
    update()
    update()
    after = dict(update.task.named_parameters())
    moved = [n for n, old in before.items() if not torch.equal(old, after[n])]
    assert len(moved) == len(before)
    assert update.flops > 0
    assert update.planned_memory > 0


def test_losses_are_those_of_the_first_updates():
    cases = losses(setting(True))
    rows = list(cases["stage 3, losses"]())
    fp32, bf16 = rows
    assert fp32.value == 0.0  # the same device here
    assert 0.0 < bf16.ratio < 1.0


@pytest.mark.slow
def test_every_part_runs_at_toy_size(tmp_path):
    out = tmp_path / "gpu.json"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "platform")])
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--out", str(out)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        cwd=ROOT,
    )
    content = json.loads(out.read_text())
    assert done.returncode == 0, done.stderr[-3000:] + json.dumps(content["parts"])[-3000:]
    assert content["quick"] is True
    assert content["device"] == "cpu"
    assert list(content["parts"]) == list(parts())
    begun = {row["name"].partition(":")[0].partition(" (")[0] for row in content["rows"]}
    wanted = {"ceilings", "losses", "waits", "eager", "preset", "compiled"}
    wanted |= {"ViT-MAE", "FLAVA", "inference", "input", "TorchTrainer"}
    assert begun == wanted
