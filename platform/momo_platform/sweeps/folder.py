"""Where sweeps lie, and what the files in a sweep's own folder are called."""

from __future__ import annotations

from pathlib import Path

from momo_platform.stages.storage.artifacts import Storage

SWEEPS = "sweeps"
DEFINITION, PLAN, RESULTS = "sweep.json", "plan.json", "results.json"
RECORD, ROWS, TENSORBOARD = "status.json", "rows", "tensorboard"
RAY_URL = "ray-dashboard.url"
"""Where the dashboard of the sweep's private Ray was."""


def sweeps_folder(storage: Storage) -> Path:
    """Where a storage's sweeps have their own files: below the storage if it is a folder, else
    below `runs`."""
    return storage.local_root / SWEEPS


def sweep_folder(storage: Storage, name: str) -> Path:
    """Where one sweep's own files lie."""
    return sweeps_folder(storage) / name
