"""Files of an engine's folder."""

from __future__ import annotations

from pathlib import Path


def graph_file(folder: Path, name: str) -> Path:
    """Of a graph that must be there. Raises FileNotFoundError that names it."""
    if not (folder / name).is_file():
        raise FileNotFoundError(f"{folder / name} is missing: export the model again")
    return folder / name
