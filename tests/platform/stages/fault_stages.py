"""A small graph whose files are large enough to be caught half written."""

import hashlib
import json
import time
from dataclasses import dataclass

import numpy as np

from momo_platform.stages import Stage

_BLOCKS, _BLOCK = 12, 2**17


@dataclass(frozen=True)
class Noise:
    seed: int
    steps: int = 0


def write_noise(config, inputs, context):
    """Slowly writes pseudo-random bytes that depend on the seed and on every input's bytes."""
    digest = hashlib.sha256(str(config.seed).encode())
    for _, artifact in sorted(inputs.items()):
        for file in sorted(artifact.path.rglob("*.bin")):
            digest.update(file.read_bytes())
    generator = np.random.Generator(np.random.Philox(int(digest.hexdigest()[:8], 16)))
    with (context.output / "noise.bin").open("wb") as file:
        for _ in range(_BLOCKS):
            file.write(generator.bytes(_BLOCK))
            file.flush()
            time.sleep(0.05)
    return {"bytes": _BLOCKS * _BLOCK}


def walk(config, inputs, context):
    """Steps that each depend on the one before, with whole checkpoints; resumes at the newest."""
    whole = [p for p in context.checkpoints.glob("step-*") if (p / "manifest.json").exists()]
    value, start = config.seed, 0
    if whole:
        newest = max(whole)
        start = int(newest.name.removeprefix("step-"))
        value = json.loads((newest / "state.json").read_text())
    for step in range(start, config.steps):
        value = (value * 6364136223846793005 + 1442695040888963407) % 2**64
        time.sleep(0.05)
        if (step + 1) % 4 == 0:
            folder = context.checkpoints / f"step-{step + 1:08d}"
            folder.mkdir(exist_ok=True)
            (folder / "state.json").write_text(json.dumps(value))
            (folder / "manifest.json").write_text("{}")
    (context.output / "walk.bin").write_bytes(value.to_bytes(8, "little") * _BLOCK)
    return {"resumed_at": start}


def build(steps=24):
    """first → (left, right) → steps → end: two branches, one stage with checkpoints."""
    first = Stage("first", write_noise, Noise(1))
    left = Stage("left", write_noise, Noise(2), {"up": first})
    right = Stage("right", write_noise, Noise(3), {"up": first})
    steps = Stage("steps", walk, Noise(4, steps=steps), {"left": left})
    return Stage("end", write_noise, Noise(5), {"steps": steps, "right": right})
