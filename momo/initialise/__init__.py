"""Start from weights that exist: an export of ours, or a model that others trained.

`check_initial` reads headers and configs only and says what would be filled, `fitted` shapes a
config for a source; `load_initial` fills a model; `words_of` gives the tokenizer of a source that
brings one. Importing this imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from momo.initialise.check import check_initial, fitted
    from momo.initialise.fill import load_initial
    from momo.initialise.origin import InitialModel, Origin, origin_of
    from momo.initialise.words import words_of

_MODULES = {
    "InitialModel": "origin",
    "Origin": "origin",
    "check_initial": "check",
    "fitted": "check",
    "load_initial": "fill",
    "origin_of": "origin",
    "words_of": "words",
}
__all__ = [
    "InitialModel",
    "Origin",
    "check_initial",
    "fitted",
    "load_initial",
    "origin_of",
    "words_of",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"momo.initialise.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'momo.initialise' has no attribute {name!r}")
