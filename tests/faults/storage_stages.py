"""Stages of the tests of faults below a run; Ray's workers import them."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from momo_platform.stages import Stage


@dataclass(frozen=True)
class Writes:
    name: str
    seconds: float = field(default=0.0, metadata={"semantic": False})


def write(config, inputs, context):
    """Says that it has begun, works, writes a file of its name."""
    (context.output.parent / "begun").touch()
    time.sleep(config.seconds)
    Path(context.output / f"{config.name}.txt").write_text(config.name)


def ask_for_workers(config, inputs, context):
    """All processors are in use, and Ray knows it, until a file lies beside the artifact; then asks
    for some as a training does."""
    import ray

    go = context.output.parent / "go"

    def work():
        while not go.exists():
            time.sleep(0.05)

    working = ray.remote(num_cpus=2)(work).remote()
    while ray.available_resources().get("CPU"):
        time.sleep(0.05)
    (context.output.parent / "begun").touch()
    ray.get(working)
    ray.get(ray.util.placement_group([{"CPU": 0.5}]).ready())


def stage(name, seconds=0.0):
    return Stage(name, ask_for_workers if name == "asks" else write, Writes(name, seconds))
