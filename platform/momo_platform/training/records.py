"""A run's log: JSON lines always, TensorBoard and W&B when asked for. No torch."""

from __future__ import annotations

import fnmatch
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from momo_platform.files import write_whole
from momo_platform.training.config import LoggingConfig

FILE_NAME = "metrics.jsonl"
SKIPPED_FILE_NAME = "skipped.jsonl"
PROFILE_FILE_NAME = "profile.json.gz"


def read_records(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a `metrics.jsonl`; a line cut off by a crash is the last and is left."""
    records = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return records


def read_curves(path: Path, patterns: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
    """Record's name → its (step, value), of the names that match a pattern; null is left out."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for record in read_records(path):
        for key, value in record.items():
            if value is not None and any(fnmatch.fnmatchcase(key, p) for p in patterns):
                curves.setdefault(key, []).append((record["step"], value))
    return curves


def _drop_after(path: Path, step: int) -> None:
    """Keep the records up to `step`; killed in the middle, the file is the old or the new one."""
    kept = [r for r in read_records(path) if r["step"] <= step]
    write_whole(path, "".join(json.dumps(r) + "\n" for r in kept))


class RunLog:
    """Appends records to `<folder>/metrics.jsonl`; a resumed run drops what came after its step.

    `skipped.jsonl` beside it names the batches of steps that were skipped.
    """

    def __init__(self, folder: Path, start_step: int, config: LoggingConfig, run_name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE_NAME
        self._skipped = folder / SKIPPED_FILE_NAME
        _drop_after(path, start_step)
        if self._skipped.exists():
            _drop_after(self._skipped, start_step)
        self._file = path.open("a", encoding="utf-8")
        self._tensorboard = self._wandb = None
        if config.tensorboard:
            from tensorboardX import SummaryWriter

            self._tensorboard = SummaryWriter(str(folder / "tensorboard"), purge_step=start_step)
        if config.wandb:
            import wandb

            online = bool(wandb.api.api_key)
            self._wandb = wandb.init(
                project="momo",
                name=run_name,
                dir=str(folder),
                mode="online" if online else "offline",
                resume="allow",
            )

    def write(self, step: int, values: dict[str, float]) -> None:
        """One record; non-finite values are written as null so that the file stays JSON."""
        clean = {k: (v if math.isfinite(v) else None) for k, v in values.items()}
        self._file.write(json.dumps({"step": step, **clean}) + "\n")
        self._file.flush()
        if self._tensorboard is not None:
            for key, value in values.items():
                self._tensorboard.add_scalar(key, value, step)
        if self._wandb is not None:
            self._wandb.log(values, step=step)

    def write_skipped(self, step: int, details: Mapping[str, Any]) -> None:
        """One step without an update, and whose fault it was."""
        with self._skipped.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **details}) + "\n")

    def close(self) -> None:
        self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()
