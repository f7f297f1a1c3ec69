"""Stages of the tests of leases; Ray's workers import them."""

import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from momo_platform.stages import Stage


@dataclass(frozen=True)
class Slow:
    value: int
    seconds: float = field(default=0.0, metadata={"semantic": False})
    started: str = field(default="", metadata={"semantic": False})


def slow(config, inputs, context):
    """Says that it has begun, works, writes."""
    if config.started:
        Path(config.started).touch()
    deadline = time.monotonic() + config.seconds
    while time.monotonic() < deadline:
        time.sleep(0.05)
    (context.output / "value").write_text(str(config.value))


def say_who(config, inputs, context):
    """Leaves its process's number where it says that it has begun."""
    marker = Path(config.started)
    marker.with_suffix(".new").write_text(str(os.getpid()))
    marker.with_suffix(".new").replace(marker)
    slow(replace(config, started=""), inputs, context)


def crash_once(config, inputs, context):
    """Kills its own process the first time."""
    marker = Path(config.started)
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), 9)
    slow(config, inputs, context)


def slow_stage(seconds=0.0, started="", run=slow):
    return Stage("slow", run, Slow(7, seconds, str(started)))
