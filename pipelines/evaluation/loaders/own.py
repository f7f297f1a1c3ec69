"""The held-out parts of the user's own sources, as they were prepared for training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from momo.transforms import decode
from momo_platform.data.artifacts import PreparedRows
from momo_platform.data.prepared import proportional, read_rows
from pipelines.evaluation.datasets import DataSet, Roots
from pipelines.evaluation.items import (
    Captioned,
    Items,
    Labelled,
    NotAvailable,
    Pictures,
    Texts,
    carve,
    classes_of,
)

MOST_LABELLED = 20_000
"""Labelled training pictures that are read at most, of each source its part."""
_TEXT_TOKENS = 128


def held_out(rows: PreparedRows, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows to test on by source and key, with `columns` and these."""
    table = read_rows(rows, [*columns, "source", "key"])
    return sorted(table.to_pylist(), key=lambda row: (row["source"], row["key"]))


def labelled_pictures(rows: PreparedRows, shown: Callable[[str], str], without: str) -> Items:
    """Prepared pictures that have a label, by their own splits. `without`: what to say where there
    are no labels."""
    table, note = _with_labels(rows)
    split = np.array(table["split"].to_pylist(), dtype=object)
    if not len(table):
        return NotAvailable(without)
    if {"train", "test"} - set(split):
        return NotAvailable("the pictures have labels, but not in both the train and test splits")
    labels, names = classes_of(table["label"].to_pylist(), shown)
    if len(np.unique(labels[split == "train"])) < 2:
        return NotAvailable("the training pictures have one label only: two classes are needed")
    pictures = Pictures(table["image"].to_pylist(), decode)
    groups = np.array([g or f"row {i}" for i, g in enumerate(table["group"].to_pylist())])
    return Labelled(pictures, labels, carve(split), names, groups, note)


def _with_labels(rows: PreparedRows) -> tuple[pa.Table, str]:
    """Those that have a label, the parts one after the other, each by source and key; and what to
    say where not all of them for training are there."""
    columns = ["image", "label", "split", "group", "source", "key"]

    def read(split: str, most: int | None = None, source: str = "") -> pa.Table:
        return read_rows(rows, columns, (split,), most, "label", source)

    note, training = "", read("train", MOST_LABELLED + 1)
    if len(training) > MOST_LABELLED:
        parts = proportional(rows, MOST_LABELLED)
        training = pa.concat_tables([read("train", most, name) for name, most in parts.items()])
        note = f"of the labelled training pictures a random sample of {len(training):,} is used"
    found = [read("test"), read("valid"), training]
    tables = [part.sort_by([("source", "ascending"), ("key", "ascending")]) for part in found]
    return pa.concat_tables([part for part in tables if len(part)] or tables[:1]), note


def labels(data: DataSet, roots: Roots) -> Items:
    """The own pictures' labels, from a column or a folder a class."""
    return labelled_pictures(
        roots.rows("own-image"),
        lambda name: name.replace("_", " "),
        "the pictures have no labels: lay them out as <class>/<picture>, or give a table with a "
        "column label",
    )


def pairs(data: DataSet, roots: Roots) -> Items:
    """Every held-out picture once, with all its captions. A caption that several pictures have, in
    any case, belongs to all of them: these make one group."""
    rows = held_out(roots.rows("own-pair"), ["image", "captions", "group"])
    if not rows:
        return NotAvailable(
            "the pairs have no held-out rows: raise --pair.held-out, or give rows the split test"
        )
    root_of = _joined(rows)
    pictures: dict[tuple[str, bytes], bytes] = {}
    captions: dict[tuple[str, str], str] = {}
    for row in rows:
        group = root_of[row["group"]]
        pictures.setdefault((group, hashlib.sha256(row["image"]).digest()), row["image"])
        for caption in row["captions"]:
            captions.setdefault((group, caption.casefold()), caption)
    return Captioned(
        Pictures(list(pictures.values()), decode),
        np.array([group for group, _ in pictures]),
        list(captions.values()),
        np.array([group for group, _ in captions]),
    )


def _joined(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Group → the group that it is counted with: those that share a caption are one."""
    parent = {row["group"]: row["group"] for row in rows}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = group = parent[parent[group]]
        return group

    first: dict[str, str] = {}
    for row in rows:
        for caption in row["captions"]:
            one = root(first.setdefault(caption.casefold(), row["group"]))
            parent[root(row["group"])] = one
    return {group: root(group) for group in parent}


def text(data: DataSet, roots: Roots) -> Items:
    """The held-out documents; of pairs that stand for a text, the captions."""
    prepared = roots.rows("own-text")
    column = "text" if "text" in prepared.index().columns else "captions"
    texts = [row[column] for row in held_out(prepared, [column])]
    if column == "captions":
        texts = list(dict.fromkeys(caption for captions in texts for caption in captions))
    if not texts:
        return NotAvailable(
            "the text has no held-out documents: raise --text.held-out, or give rows the split test"
        )
    return Texts(
        texts,
        np.zeros(len(texts), dtype=np.int64),
        np.array(["test"] * len(texts), dtype=object),
        1,
        length=_TEXT_TOKENS,
    )
