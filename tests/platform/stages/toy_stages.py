"""Toy stages: module-level functions, as real ones are, so that workers import them."""

import json
import os
import time
from dataclasses import dataclass, field

from momo_platform.stages import Resources, Stage


@dataclass(frozen=True)
class Toy:
    value: int = 1
    seconds: float = field(default=0.0, metadata={"semantic": False})
    crash_file: str = field(default="", metadata={"semantic": False})
    message: str = ""


def add(config, inputs, context):
    """Writes value + the sum of its inputs."""
    time.sleep(config.seconds)
    total = config.value
    for artifact in inputs.values():
        total += json.loads((artifact.path / "sum.json").read_text())
    (context.output / "sum.json").write_text(json.dumps(total))
    context.progress({"step": 1, "total": 1, "metrics": {"sum": float(total)}})
    return {"sum": total}


def fail(config, inputs, context):
    (context.output / "half.json").write_text("half")
    raise RuntimeError(config.message or "toy failure")


def crash_once(config, inputs, context):
    """Kills its own process the first time."""
    from pathlib import Path

    marker = Path(config.crash_file)
    if not marker.exists():
        marker.write_text("crashed")
        os.kill(os.getpid(), 9)
    return add(config, inputs, context)


def early(config, inputs, context):
    """Starts before its inputs are there, waits for them inside, then works for `seconds`."""
    started = time.time()
    inputs = context.resolve_inputs()
    waited = time.time() - started
    time.sleep(config.seconds)
    total = config.value + sum(
        json.loads((artifact.path / "sum.json").read_text()) for artifact in inputs.values()
    )
    (context.output / "sum.json").write_text(json.dumps(total))
    return {"sum": total, "waited": waited}


def restart_late(config, inputs, context):
    """Reports as a trainer that loses a worker after a second and starts again for another."""
    for message, first_step_at in (("", 1.0), ("worker lost, restart 1", None), ("", 3.0)):
        context.progress({"message": message, "first_step_at": first_step_at})
        time.sleep(config.seconds)
    return add(config, inputs, context)


def count_steps(config, inputs, context):
    """Ten steps of `seconds` each, a checkpoint after every step; resumes at the newest."""
    done = sorted(context.checkpoints.glob("step-*"))
    start = int(done[-1].name.removeprefix("step-")) if done else 0
    for step in range(start, config.value):
        time.sleep(config.seconds)
        folder = context.checkpoints / f"step-{step + 1:08d}"
        folder.mkdir()
        (folder / "manifest.json").write_text('{"files": {}}')
        context.progress({"step": step + 1, "total": config.value})
    (context.output / "sum.json").write_text(str(config.value))
    return {"resumed_at": start}


def chain(*values, run=add, **config):
    """Stages s0 → s1 → …, each with one input."""
    stages = []
    for i, value in enumerate(values):
        inputs = {"up": stages[-1]} if stages else {}
        stages.append(Stage(f"s{i}", run, Toy(value, **config), inputs))
    return stages


EARLY = Resources(early_start=True)
