"""The objectives, one a file: what each reads, trains, costs and adds to the loss. No torch on
import: plans ask them, too. How to add one: docs/extending/objective.md."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from momo.objectives.base import Objective

_FILES = (  # in the order in which losses are computed and added up
    "mim",
    "mlm",
    "contrastive",
    "matching",
    "pair_mlm",
    "pair_mim",
)


def _objective(name: str) -> Objective:
    found: Objective = import_module(f"{__name__}.{name}").OBJECTIVE
    if found.name != name:
        raise ValueError(f"momo/objectives/{name}.py: its objective is called {found.name!r}")
    return found


OBJECTIVES: Mapping[str, Objective] = {name: _objective(name) for name in _FILES}
"""By name, which is that of the file, of the weight and of the loss in records."""
