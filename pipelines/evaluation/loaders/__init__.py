"""What reads the data sets, a file a kind. A data set names its loader as `<file>.<function>`, then
perhaps an argument after a colon; there is no other list."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from pipelines.evaluation.datasets import DATA_SETS, DataSet, Roots
from pipelines.evaluation.items import Items

Loader = Callable[[DataSet, Roots], Items]
"""Raises UserError for files of another shape."""


def loader_named(name: str) -> Loader:
    """Raises AttributeError and ModuleNotFoundError for one that no file has."""
    file, _, function = name.partition(":")[0].partition(".")
    return getattr(import_module(f"{__name__}.{file}"), function)


def load_items(name: str, roots: Roots) -> Items:
    """The items of the data set called `name`. Raises UserError for files of another shape."""
    data = DATA_SETS[name]
    return loader_named(data.loader)(data, roots)


def load_given(loader: str, uri: str) -> Items:
    """Of data that was named on the command line. `loader` is what it holds, then after a colon
    `divided` where rows that name no split are divided, or `all` where they are all test examples;
    or `mteb:NAME`. Raises UserError that names the row, or the task."""
    from pipelines.evaluation.loaders import given, mteb_tasks

    kind, _, how = loader.partition(":")
    if kind == "mteb":
        return mteb_tasks.named(how, uri)
    return getattr(given, kind)(uri, how == "divided")
