"""Loaders by name: `(argument, roots) → items`.

`roots` maps `data` to the data folder and the roles of the graph's own artifacts to theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from pipelines.evaluation.items import Items
from pipelines.evaluation.tasks import DATA_SETS

Loader = Callable[[str, Mapping[str, Path]], Items]
_PLACES = {
    "torchvision": "images",
    "folder": "images",
    "glue": "texts",
    "vqav2": "pairs",
    "snli_ve": "pairs",
    "hateful_memes": "pairs",
    "karpathy": "pairs",
    "demo_mnist": "demo",
    "demo_labelled": "demo",
    "demo_pairs": "demo",
    "demo_reviews": "demo",
    "demo_questions": "demo",
    "own_labels": "own",
    "own_pairs": "own",
    "own_text": "own",
}


def load_items(name: str, roots: Mapping[str, Path]) -> Items:
    """The items of the data set called `name`. Raises UserError for files of another shape."""
    kind, _, argument = DATA_SETS[name].loader.partition(":")
    module = import_module(f"pipelines.evaluation.loaders.{_PLACES[kind]}")
    loader: Loader = getattr(module, kind)
    return loader(argument, roots)
