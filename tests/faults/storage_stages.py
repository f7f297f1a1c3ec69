"""Stages of the tests of faults below a run; Ray's workers import them."""

import os
import signal
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


class Helper:
    """A process that a stage starts, as a training starts its controller."""

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)


def lose_a_helper(config, inputs, context):
    """At the first try a process dies that the stage waits for."""
    import ray

    begun = context.output.parent / "begun"
    if not begun.exists():
        begun.touch()
        ray.get(ray.remote(num_cpus=0)(Helper).remote().die.remote())
    write(config, inputs, context)


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
    run = {"asks": ask_for_workers, "helped": lose_a_helper}.get(name, write)
    return Stage(name, run, Writes(name, seconds))
