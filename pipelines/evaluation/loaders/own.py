"""The held-out parts of the user's own sources, as they were prepared for training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from momo.transforms import decode
from momo_platform.data.artifacts import PreparedRows
from momo_platform.data.prepared import read_rows
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
"""Labelled training pictures that a task uses at most."""
_LABELLED = ("image", "label", "split", "group", "source", "key")
_TEXT_TOKENS = 128


def held_out(rows: PreparedRows, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows to test on by source and key, with `columns` and these."""
    table = read_rows(rows, [*columns, "source", "key"])
    return sorted(table.to_pylist(), key=lambda row: (row["source"], row["key"]))


def labelled_pictures(rows: PreparedRows, shown: Callable[[str], str], without: str) -> Items:
    """Prepared pictures that have a label, by their own splits. `without`: what to say where there
    are no labels."""
    training, note = _training(rows)
    parts = [read_rows(rows, _LABELLED, (part,), filled="label") for part in ("test", "valid")]
    found = [part.to_pylist() for part in (*parts, training)]
    for part in found:
        part.sort(key=lambda row: (row["source"], row["key"]))
    labelled = [row for part in found for row in part]
    split = np.array([row["split"] for row in labelled], dtype=object)
    if not labelled:
        return NotAvailable(without)
    if {"train", "test"} - set(split):
        return NotAvailable("the pictures have labels, but not in both the train and test splits")
    labels, names = classes_of([row["label"] for row in labelled], shown)
    if len(np.unique(labels[split == "train"])) < 2:
        return NotAvailable("the training pictures have one label only: two classes are needed")
    pictures = Pictures([row["image"] for row in labelled], decode)
    groups = np.array([row["group"] or f"row {i}" for i, row in enumerate(labelled)])
    return Labelled(pictures, labels, carve(split), names, groups, note)


def _training(rows: PreparedRows) -> tuple[pa.Table, str]:
    """At most MOST_LABELLED of the training pictures that have a label, of each source its part,
    and what to say where these are not all. A source whose first rows have none is not searched."""

    def read(source: str, columns: Sequence[str], most: int, filled: str = "") -> pa.Table:
        return read_rows(rows, columns, ("train",), most, filled, source)

    found = [
        read(source, _LABELLED, MOST_LABELLED + 1, "label")
        for source in dict.fromkeys(shard.source for shard in rows.index().shards)
        if any(read(source, ["label"], MOST_LABELLED)["label"].to_pylist())
    ]
    total = sum(len(table) for table in found)
    if total > MOST_LABELLED:
        some = pa.concat_tables([t.slice(0, MOST_LABELLED * len(t) // total) for t in found])
        return some, f"of the labelled training pictures a random sample of {len(some):,} is used"
    return pa.concat_tables(found) if found else pa.table({}), ""


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
