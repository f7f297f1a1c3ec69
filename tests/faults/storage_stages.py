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


def writing(name, seconds=0.0):
    return Stage(name, write, Writes(name, seconds))
