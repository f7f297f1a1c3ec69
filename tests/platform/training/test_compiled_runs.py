"""Compiling as a run sees it: a cache that outlives the process, and how long it took."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch._dynamo.utils import counters

from momo_platform.training.config import ScalingConfig, ValidationConfig
from momo_platform.training.records import read_records
from tests.platform.training.test_stage import run
from tests.platform.training.toy import ToyTask
from tests.platform.training.toy_runs import config, make_trainer

ROOT = Path(__file__).parents[3]
# Code for the CPU is written for a number of threads.
COMPILED = config(
    2,
    scaling=ScalingConfig(num_workers=0, threads_per_worker=1, compile=True),
    validation=ValidationConfig(every_steps=2),
)


def cache_use():
    """Graphs that came out of the compiler's cache, and those that did not."""
    return tuple(counters["inductor"][f"fxgraph_cache_{name}"] for name in ("hit", "miss"))


def train_in_this_process(folder):
    torch.set_num_threads(1)
    trainer = make_trainer(0, 1, folder, COMPILED, held_out={"a": 12})
    trainer.run()
    records = read_records(Path(folder) / "metrics.jsonl")
    assert [r["step"] for r in records if "valid/loss/a" in r] == [0, 2]
    print(*cache_use(), trainer.seconds_compiling())


def train_in_a_new_process(folder):
    """(graphs out of the cache, graphs compiled, seconds)"""
    paths = os.pathsep.join(str(ROOT / part) for part in (".", "platform", "tests"))
    name = "tests.platform.training.test_compiled_runs"
    code = f"import sys, {name} as t; t.train_in_this_process(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env=dict(os.environ, PYTHONPATH=paths),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return tuple(map(float, done.stdout.split()[-3:]))


def test_the_next_process_compiles_from_the_cache_and_a_stage_says_how_long(
    tmp_path, ray_local, monkeypatch
):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # and as it was after the test
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _, misses, seconds = train_in_a_new_process(tmp_path / "first")
    assert misses > 0
    assert seconds > 0
    assert (tmp_path / "cache" / "momo" / "compiled").is_dir()

    # A new process, as a run's next stage has: the cache's keys hold what tests before this one
    # left in theirs.
    hits, misses, _ = train_in_a_new_process(tmp_path / "second")
    assert hits > 0
    assert misses == 0

    torch._dynamo.reset()
    messages = []
    (tmp_path / "third").mkdir()
    (tmp_path / "third" / "flag").touch()  # nobody is asked to leave
    try:
        result = run(tmp_path / "third", COMPILED, messages)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert result["seconds_compiling"] > 0
    assert any("compiled for" in message.get("message", "") for message in messages)


def test_a_run_counts_its_own_compiling_only(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    earlier = torch.compile(torch.sin, backend="eager")
    earlier(torch.ones(3))
    trainer = make_trainer(0, 1, tmp_path, COMPILED)
    assert trainer.seconds_compiling() == 0
    torch.compile(torch.cos, backend="eager")(torch.ones(3))
    assert trainer.seconds_compiling() > 0


class Checkpointed(ToyTask):
    def enable_activation_checkpointing(self, what):
        self.what = what


def test_compiling_blocks_that_are_computed_twice_is_warned_of_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    cases: tuple[tuple[Any, int], ...] = (("elementwise", 0), ("blocks", 1))
    for checkpointing, warnings in cases:
        scaling = ScalingConfig(compile=True, activation_checkpointing=checkpointing)
        for rank in (0, 1):
            make_trainer(rank, 2, tmp_path, config(scaling=scaling), task=Checkpointed)
        assert sum("scaling.compile" in m for m in caplog.messages) == warnings
