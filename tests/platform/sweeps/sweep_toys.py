"""A toy graph for sweeps: one shared stage, then a stage that `trains` and scores itself."""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from momo_platform.stages import Resources, Stage
from momo_platform.training.records import FILE_NAME

LOG = "runs.txt"


@dataclass(frozen=True)
class Common:
    folder: str = field(default="", metadata={"semantic": False})


@dataclass(frozen=True)
class Toy:
    """`folder`: where every run leaves a line; not part of the fingerprint."""

    quality: float
    seed: int
    part: int = 0
    fails: bool = False
    steps: int = 4
    step_seconds: float = field(default=0.0, metadata={"semantic": False})
    folder: str = field(default="", metadata={"semantic": False})


def _note(folder, line):
    with (Path(folder) / LOG).open("a") as file:
        file.write(line + "\n")


def common(config, inputs, context):
    _note(config.folder, "common")
    (context.output / "common.txt").write_text("shared")
    return {}


def train(config, inputs, context):
    """Loss falls to 1 - quality; the score is the quality, shifted a little by the seed, plus that
    of the part before."""
    _note(config.folder, f"start {config.quality} {config.seed} {config.part} {os.getpid()}")
    if config.fails:
        raise ValueError("toy failure")
    score = config.quality + 0.01 * config.seed
    if "previous" in inputs:
        score += json.loads((inputs["previous"].path / "score.json").read_text())
    with (context.output / FILE_NAME).open("w") as file:
        for step in range(1, config.steps + 1):
            time.sleep(config.step_seconds)
            loss = 1 - config.quality + 1 / step
            context.progress({"step": step, "total": config.steps, "metrics": {"toy": loss}})
            file.write(json.dumps({"step": step, "loss/toy": loss}) + "\n")
    (context.output / "score.json").write_text(json.dumps(score))
    _note(config.folder, f"done {config.quality} {config.seed} {config.part}")
    return {"score": score, "nested": {"double": 2 * score}}


def build(base, history, seed):
    """`base`: {"folder", "step_seconds", "cpus"}."""
    first = Stage("common", common, Common(base["folder"]))
    stage = first
    for part, settings in enumerate(history):
        inputs = {"common": first} | ({"previous": stage} if part else {})
        toy = Toy(
            settings["quality"],
            seed,
            part,
            settings.get("fails", False),
            int(settings.get("steps", base.get("steps", 4))),
            base.get("step_seconds", 0.0),
            base["folder"],
        )
        own = Resources(num_cpus=base.get("cpus", 1.0))
        stage = Stage("toy" if not part else f"toy-{part}", train, toy, inputs, resources=own)
    return stage


def lines(folder):
    """Every run's line so far."""
    file = Path(folder) / LOG
    return file.read_text().splitlines() if file.exists() else []
