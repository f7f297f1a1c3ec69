"""The held-out parts of the user's own sources, as they were prepared for training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from momo.transforms import decode
from momo_platform.data.artifacts import PreparedRows
from momo_platform.data.prepared import iterate_rows
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

MOST_ROWS = 20_000
"""Rows of a part, with their pictures, that a data set reads at most: they are held in memory."""
_MOST_COUNTED = 100_000
"""Training rows of a source whose labels are counted; they stand for the rest."""
_LABELLED = ("image", "label", "split", "group", "source", "key")
_TEXT_TOKENS = 128


def _listed(
    rows: PreparedRows,
    columns: Sequence[str],
    split: str,
    most: int,
    filled: str = "",
    source: str = "",
) -> list[dict[str, Any]]:
    """The first `most` rows of a part, as `iterate_rows` chooses them."""
    tables = iterate_rows(rows, columns, (split,), most, filled, source)
    return [row for table in tables for row in table.to_pylist()]


def _sorted(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found, key=lambda row: (row["source"], row["key"]))


def held_out(
    rows: PreparedRows, columns: Sequence[str], split: str = "test", filled: str = ""
) -> tuple[list[dict[str, Any]], str]:
    """The rows to test on by source and key, with `columns` and these, and what to say where they
    are not all: MOST_ROWS, the first as they lie, which is in a random order. `filled`: only rows
    where this column of strings is not empty."""
    names = [*dict.fromkeys((*columns, "source", "key"))]
    found = _listed(rows, names, split, MOST_ROWS + 1, filled)
    if len(found) <= MOST_ROWS:
        return _sorted(found), ""
    told = f"of the held-out rows ({split}) a random sample of {MOST_ROWS:,} is used"
    return _sorted(found[:MOST_ROWS]), told


def labelled_pictures(rows: PreparedRows, shown: Callable[[str], str], without: str) -> Items:
    """Prepared pictures that have a label, by their own splits. `without`: what to say where there
    are no labels."""
    training, note = _training(rows)
    parts = [held_out(rows, _LABELLED, part, "label") for part in ("test", "valid")]
    note = "; ".join(told for told in (note, *(told for _, told in parts)) if told)
    found = [*(part for part, _ in parts), training]
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


def _training(rows: PreparedRows) -> tuple[list[dict[str, Any]], str]:
    """At most MOST_ROWS of the training pictures that have a label, of each source its part, and
    what to say where these may not be all. A source whose first rows have none is not searched."""
    index, counts, is_exact = rows.index(), dict[str, int](), True
    for source in dict.fromkeys(shard.source for shard in index.shards):
        here = sum(shard.rows for shard in index.shards if shard.source == source)
        counted = min(here, _MOST_COUNTED)
        tables = iterate_rows(rows, ["label"], ("train",), counted, source=source)
        labelled = sum(sum(map(bool, table["label"].to_pylist())) for table in tables)
        counts[source] = -(-labelled * here // max(1, counted))
        is_exact = is_exact and (counted == here or not labelled)
    total = sum(counts.values())
    part = min(total, MOST_ROWS)
    found = [
        row
        for source, count in counts.items()
        for row in _listed(rows, _LABELLED, "train", part * count // max(1, total), "label", source)
    ]
    told = f"of the labelled training pictures a random sample of {len(found):,} is used"
    return _sorted(found), "" if total <= MOST_ROWS and is_exact else told


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
    rows, note = held_out(roots.rows("own-pair"), ["image", "captions", "group"])
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
        note,
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
    rows, note = held_out(prepared, [column])
    texts = [row[column] for row in rows]
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
        note=note,
    )
