"""Which checkpoint a run goes on from: the newest whose files are what was written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from momo_platform.stages.checkpoints import altered_file, damaged_file, finished
from momo_platform.training.checkpoint import MANIFEST, checkpoint_of
from momo_platform.training.parallel import world_size

_NEEDED = ("model.safetensors", "optimizer.safetensors", "state.json")


def checkpoint_to_resume(
    folder: Path, rank: int, device: torch.device, warn: Callable[[str], None]
) -> Path | None:
    """The same on all ranks: rank 0 reads the files, warns of the damaged ones and tells the rest.

    Raises FileNotFoundError on a rank that lacks it.
    """
    step, damaged = _newest_sound(folder) if not rank else (-1, {})
    if world_size() > 1:  # reduced, not broadcast: no rank goes on before all have their folders
        chosen = torch.tensor(step, device=device)
        torch.distributed.all_reduce(chosen, torch.distributed.ReduceOp.MAX)
        step = int(chosen)
    if damaged:
        told = ", ".join(f"step {int(p.name[5:])} is damaged ({f})" for p, f in damaged.items())
        warn(f"{told}: " + (f"going on from step {step}" if step >= 0 else "beginning anew"))
    for path in damaged:
        _set_aside(path)
    if step < 0:
        return None
    path = checkpoint_of(folder, step)
    if path is None:
        raise FileNotFoundError(f"{folder}: the checkpoint of step {step} is not whole here")
    return path


def _newest_sound(folder: Path) -> tuple[int, dict[Path, str]]:
    """Its step, -1 without one, and the damaged file of each newer one."""
    damaged: dict[Path, str] = {}
    for step, path in finished(folder):
        bad = altered_file(path, _NEEDED)
        if bad is None:
            return step, damaged
        damaged[path] = bad
    return -1, damaged


def damaged_checkpoint(folder: Path, step: int) -> str | None:
    """The damaged file of a step's checkpoint, or None."""
    return altered_file(folder / f"step-{step:08d}", _NEEDED)


def _set_aside(path: Path) -> None:
    """Where sizes alone don't tell that a checkpoint is damaged: keep plans and the removal of old
    ones from counting it. Its files stay until a later one is written."""
    if damaged_file(path) is None:
        (path / MANIFEST).rename(path / f"{MANIFEST}.damaged")
