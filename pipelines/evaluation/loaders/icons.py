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
from pipelines.icons.wordnet import NOUN_CLASSES

ROLE = "corpora-icons"
_GLOSS_TOKENS = 32
_SIDE = 64  # of a picture that is opened without a size
_MEND = f"make it anew with --rerun {ROLE}"


def concepts(data: DataSet, roots: Roots) -> Items:
    """A picture and the name of each held-out concept, no picture of which was trained on in any
    style."""
    file = _file(roots, "retrieval.parquet")
    return _captioned(file, _one_each(_rows(file, ("image", "caption", "group")), "caption"))


def unseen_style(data: DataSet, roots: Roots) -> Items:
    """A picture and the name of each concept from the emoji sets, no style of which was trained on.
    The concept itself was, in other styles (`seen`), or was not (`unseen`). Of its styles one is
    drawn by hash."""
    file = _file(roots, "unseen_styles.parquet")
    rows = _rows(file, ("image", "captions", "group", "style", "seen"))
    seen = data.argument == "seen"
    return _captioned(file, _one_each([row for row in rows if row["seen"] == seen], "captions"))


def named(data: DataSet, roots: Roots) -> Items:
    """Pictures that were left out of training, of concepts that were trained on in other styles;
    the classes are the concepts' names."""
    file = _file(roots, "named.parquet")
    rows = _one_each(_rows(file, ("image", "caption", "group")), "caption")
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
    """Pictures with their style, divided by concept."""
    file = _file(roots, "styles.parquet")
    rows = _rows(file, ("image", "label", "group", "split"))
    if not rows:
        return NotAvailable(f"{file} has no picture")
    labels, names = classes_of([row["label"] for row in rows], lambda name: name)
    split = np.array([row["split"] for row in rows], dtype=object)
    groups = np.array([row["group"] for row in rows])
    return Labelled(_pictures(file, rows), labels, split, names, groups)


def glosses(data: DataSet, roots: Roots) -> Items:
    """Glosses of WordNet's nouns with their lexicographer file, divided by synset."""
    file = _file(roots, "glosses.jsonl")
    with file.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    _check(file, set(rows[0]) if rows else set(), ("text", "label", "split"))
    return Texts(
        [row["text"] for row in rows],
        np.array([row["label"] for row in rows], dtype=np.int64),
        np.array([row["split"] for row in rows], dtype=object),
        len(NOUN_CLASSES),
        length=_GLOSS_TOKENS,
        class_names=NOUN_CLASSES,
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


def _one_each(rows: Sequence[dict[str, Any]], caption: str) -> list[dict[str, Any]]:
    """A row of each concept, drawn by hash, in the order of the concepts; with `name`, the first
    caption."""
    drawn: dict[str, tuple[str, dict[str, Any]]] = {}
    for row in rows:
        text = f"{row['group']}/{row.get('style', '')}/".encode() + row["image"]
        place = hashlib.sha256(text).hexdigest()
        if row["group"] not in drawn or place < drawn[row["group"]][0]:
            drawn[row["group"]] = place, row
    found = [drawn[group][1] for group in sorted(drawn)]
    told = [row[caption] for row in found]
    names = [one if isinstance(one, str) else one[0] for one in told]
    return [{**row, "name": name} for row, name in zip(found, names, strict=True)]


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
