"""The held-out parts of the user's own sources, as they were prepared for training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from momo.transforms import decode
from momo_platform.data.artifacts import PreparedRows
from pipelines.evaluation.datasets import DataSet
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

_TEXT_TOKENS = 128


def _read(rows: PreparedRows, columns: list[str], filters: Any) -> list[dict[str, Any]]:
    return pq.read_table(rows.file, columns=columns, filters=filters).to_pylist()


def labelled_pictures(folder: Path, shown: Callable[[str], str], without: str) -> Items:
    """Prepared pictures that have a label, by their own splits. `without`: what to say where there
    are no labels."""
    columns = ["image", "label", "split", "group"]
    rows = _read(PreparedRows(folder), columns, [("label", "!=", "")])
    split = np.array([r["split"] for r in rows], dtype=object)
    if not len(rows):
        return NotAvailable(without)
    if {"train", "test"} - set(split):
        return NotAvailable("the pictures have labels, but not in both the train and test splits")
    labels, names = classes_of([r["label"] for r in rows], shown)
    if len(np.unique(labels[split == "train"])) < 2:
        return NotAvailable("the training pictures have one label only: two classes are needed")
    pictures = Pictures([r["image"] for r in rows], decode)
    groups = np.array([r["group"] or f"row {i}" for i, r in enumerate(rows)])
    return Labelled(pictures, labels, carve(split), names, groups)


def labels(data: DataSet, roots: Mapping[str, Path]) -> Items:
    """The own pictures' labels, from a column or a folder a class."""
    return labelled_pictures(
        roots["own-image"],
        lambda name: name.replace("_", " "),
        "the pictures have no labels: lay them out as <class>/<picture>, or give a table with a "
        "column label",
    )


def pairs(data: DataSet, roots: Mapping[str, Path]) -> Items:
    """Every held-out picture once, with all its captions. A caption that several pictures have, in
    any case, belongs to all of them: these make one group."""
    columns = ["image", "captions", "group"]
    rows = _read(PreparedRows(roots["own-pair"]), columns, [("split", "==", "test")])
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


def text(data: DataSet, roots: Mapping[str, Path]) -> Items:
    """The held-out documents; of pairs that stand for a text, the captions."""
    prepared = PreparedRows(roots["own-text"])
    column = "text" if "text" in pq.read_schema(prepared.file).names else "captions"
    rows = _read(prepared, [column], [("split", "==", "test")])
    texts = [r[column] for r in rows]
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
