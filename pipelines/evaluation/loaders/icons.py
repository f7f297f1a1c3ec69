"""The icons' tasks: names of held-out concepts and drawing styles, and classes of glosses.

They lie in the bundle's `tasks/` (`pipelines/icons/corpora.py`). Pictures are SVG and drawn at the
size that a model takes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from momo.transforms import decode
from momo_platform.data.renderer import draw
from momo_platform.stages import UserError
from pipelines.evaluation.datasets import DataSet, Roots
from pipelines.evaluation.items import (
    Captioned,
    Items,
    Labelled,
    NotAvailable,
    Pictures,
    Texts,
    classes_of,
)

ROLE = "corpora-icons"
CONCEPTS = 1000
"""Among so many a name is sought at most, that figures of all sets of pictures have one chance."""
_STYLED = {"train": 125, "valid": 25, "test": 50}  # pictures of a style
_GLOSSES = {"train": 10_000, "valid": 1_000, "test": 4_000}
_GLOSS_TOKENS = 32
_SIDE = 64  # of a picture that is opened without a size
_MEND = f"make it anew with --rerun {ROLE}"


def concepts(data: DataSet, roots: Roots) -> Items:
    """A picture and the name of each held-out concept, no picture of which was trained on in any
    style."""
    file = _file(roots, "retrieval.parquet")
    return _captioned(file, _chosen(_rows(file, ("image", "caption", "group")), "caption"))


def unseen_style(data: DataSet, roots: Roots) -> Items:
    """A picture and the name of each concept from the emoji sets, no style of which was trained on.
    The concept itself was, in other styles (`seen`), or was not (`unseen`)."""
    file = _file(roots, "unseen_styles.parquet")
    rows = _rows(file, ("image", "captions", "group", "style", "seen"))
    seen = data.argument == "seen"
    return _captioned(file, _chosen([row for row in rows if row["seen"] == seen], "captions"))


def named(data: DataSet, roots: Roots) -> Items:
    """Pictures that were left out of training, of concepts that were trained on in other styles;
    the classes are the concepts' names."""
    file = _file(roots, "named.parquet")
    rows = _chosen(_rows(file, ("image", "caption", "group")), "caption")
    if not rows:
        return NotAvailable(f"{file} has no picture")
    return Labelled(
        _pictures(file, rows),
        np.arange(len(rows)),
        np.array(["test"] * len(rows), dtype=object),
        tuple(row["name"] for row in rows),
        templates=("{}",),  # as captions are in training
    )


def styles(data: DataSet, roots: Roots) -> Items:
    """Pictures with their style, divided by concept; of each style and part the same number, as far
    as there are so many."""
    file = _file(roots, "styles.parquet")
    kept: list[dict[str, Any]] = []
    found: dict[tuple[str, str], int] = {}
    rows = _rows(file, ("image", "label", "group", "split"))
    for row in sorted(rows, key=lambda row: (_hash(row["group"]), row["label"])):
        part = row["label"], row["split"]
        found[part] = found.get(part, 0) + 1
        if found[part] <= _STYLED[row["split"]]:
            kept.append(row)
    if not kept:
        return NotAvailable(f"{file} has no picture")
    labels, names = classes_of([row["label"] for row in kept], lambda name: name)
    split = np.array([row["split"] for row in kept], dtype=object)
    groups = np.array([row["group"] for row in kept])
    return Labelled(_pictures(file, kept), labels, split, names, groups)


def glosses(data: DataSet, roots: Roots) -> Items:
    """Glosses of WordNet's nouns with their lexicographer file, divided by synset; evenly spread
    over those that there are."""
    file = _file(roots, "glosses.jsonl")
    with file.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    _check(file, set(rows[0]) if rows else set(), ("text", "label", "split"))
    chosen = []
    for part, most in _GLOSSES.items():
        here = [row for row in rows if row["split"] == part]
        chosen += here[:: -(-len(here) // most) or 1]
    labels, names = classes_of([row["label"] for row in chosen], lambda name: name)
    return Texts(
        [row["text"] for row in chosen],
        labels,
        np.array([row["split"] for row in chosen], dtype=object),
        int(labels.max()) + 1,
        length=_GLOSS_TOKENS,
        class_names=names,
    )


def _file(roots: Roots, name: str) -> Path:
    file = roots.folder(ROLE) / "tasks" / name
    if not file.is_file():
        raise UserError(f"{file} is not there; {_MEND}")
    return file


def _check(file: Path, found: set[str], wanted: Sequence[str]) -> None:
    if missing := [name for name in wanted if name not in found]:
        raise UserError(f"{file}: no column {', '.join(missing)}; {_MEND}")


def _rows(file: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    try:
        _check(file, set(pq.read_schema(file).names), columns)
        return pq.read_table(file, columns=list(columns)).to_pylist()
    except pa.ArrowInvalid as error:
        raise UserError(f"{file}: {error}; {_MEND}") from error


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _chosen(rows: Sequence[dict[str, Any]], caption: str) -> list[dict[str, Any]]:
    """A row each of CONCEPTS concepts, both drawn by hash; with `name`, the first caption."""
    one: dict[str, tuple[str, dict[str, Any]]] = {}
    for row in rows:
        key = _hash(f"{row['group']}/{row.get('style', '')}/{_hash(repr(row['image']))}")
        if row["group"] not in one or key < one[row["group"]][0]:
            one[row["group"]] = key, row
    groups = sorted(one, key=_hash)[:CONCEPTS]
    found = []
    for row in (one[group][1] for group in groups):
        told = row[caption]
        found.append({**row, "name": told if isinstance(told, str) else told[0]})
    return found


def _captioned(file: Path, rows: Sequence[dict[str, Any]]) -> Items:
    if not rows:
        return NotAvailable(f"{file} has no such picture")
    groups = np.array([row["group"] for row in rows])
    return Captioned(_pictures(file, rows), groups, [row["name"] for row in rows], groups)


def _pictures(file: Path, rows: Sequence[dict[str, Any]]) -> Pictures:
    drawn = partial(_drawn, file)
    return Pictures([row["image"] for row in rows], partial(drawn, size=_SIDE), drawn)


def _drawn(file: Path, svg: bytes, size: int) -> Image.Image:
    try:
        return decode(draw(svg.decode("utf-8"), size))
    except ValueError as error:
        raise UserError(f"{file}: a picture is no readable SVG ({error}); {_MEND}") from error
