"""MoMo: one shared encoder for text, images and pairs, in plain PyTorch.

`momo.load(folder)` opens an exported model, `momo.load_classifier(folder)` a fine-tuned one.
Importing `momo` imports neither torch nor ray.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from momo.classifier import Classifier, load_classifier, save_classifier
    from momo.embedder import AnyEmbedder
    from momo.export import Embedder, load

_MODULES = {
    "AnyEmbedder": "embedder",
    "Embedder": "export",
    "load": "export",
    "Classifier": "classifier",
    "load_classifier": "classifier",
    "save_classifier": "classifier",
}
__all__ = ["AnyEmbedder", "Classifier", "Embedder", "load", "load_classifier", "save_classifier"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"momo.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'momo' has no attribute {name!r}")
