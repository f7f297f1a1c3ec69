"""The platform as an installed package: the calls `train`, `plan`, `evaluate`, … and the command
`momo`.

An installed wheel keeps `pipelines` and `experiments` below this package, so that they don't stand
at the top of site-packages. Importing `momo_ray` puts them on the path of this process and of those
that it starts, Ray's workers among them. In a checkout they are on the path already.

`pip install momo-ray` brings `momo` alone; this package needs `pip install 'momo-ray[platform]'`.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.commands.api import (
        artifacts,
        embed,
        embed_corpus,
        evaluate,
        export,
        index,
        plan,
        push,
        serve,
        sweep,
        train,
    )

__all__ = [
    "artifacts",
    "embed",
    "embed_corpus",
    "evaluate",
    "export",
    "index",
    "plan",
    "push",
    "serve",
    "sweep",
    "train",
]


def _make_jobs_importable(folder: Path) -> None:
    """Nothing in a checkout, which has no such folder."""
    place = str(folder)
    if not folder.is_dir() or place in sys.path:
        return
    sys.path.append(place)
    given = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{given}{os.pathsep}{place}" if given else place


_make_jobs_importable(Path(__file__).with_name("_jobs"))


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("pipelines.commands.api"), name)
    raise AttributeError(f"module 'momo_ray' has no attribute {name!r}")
