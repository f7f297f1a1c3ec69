"""Data sets that were named on the command line: `--tasks NAME=FOLDER_OR_TABLE[:PROTOCOL]`.

Rows are what the corpora's readers list: folders, tables, WebDataset tars, `datasets`. Pictures
are read when they are asked for; those inside tables are held as their bytes.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from momo.transforms import to_rgb, upright
from momo_platform.data.columns import TEXT_NAMES
from momo_platform.data.config import Kind, SourceConfig
from momo_platform.data.filesystems import filesystem_of, is_hidden, list_files, open_place
from momo_platform.data.listing import SPLITS, PictureRef, first, picture_of
from momo_platform.data.raw_pictures import Found, find_pictures, raw_picture
from momo_platform.data.readers.table_rows import TABLES, read_table_rows
from momo_platform.data.sources import list_rows
from momo_platform.stages import UserError
from pipelines.evaluation.items import (
    Captioned,
    Items,
    Labelled,
    Pictures,
    Texts,
    carve,
    classes_of,
    divided,
)
from pipelines.modalities import IMAGE, PAIR, TEXT

_ANSWERS = 3129  # as many as VQAv2's models have
_TEXT_TOKENS, _QUESTION_TOKENS = 128, 24


def _bad(uri: str, row: dict[str, Any], what: str) -> UserError:
    return UserError(f"{uri}, {row['key']}: {what}")


def _listed(uri: str, kind: Kind, more: Sequence[str] = ()) -> list[dict[str, Any]]:
    rows = list(list_rows(SourceConfig("given", uri), uri, kind, more))
    for row in rows:
        if row["reason"]:
            raise _bad(uri, row, f"{row['reason']}; mend the row or take it out")
    if not rows:
        raise UserError(f"{uri}: it holds no rows; give a folder or table with some")
    return rows


def _pictures(uri: str, rows: Sequence[dict[str, Any]]) -> Pictures:
    def open_row(item: tuple[dict[str, Any], Found]) -> Image.Image:
        try:
            picture = Image.open(io.BytesIO(raw_picture(item[1])))
            picture.load()
            return to_rgb(upright(picture))
        except Exception as error:  # Pillow's decoders raise many kinds on malformed bytes
            remedy = f"not a picture that can be read ({error}); replace it or take it out"
            raise _bad(uri, item[0], remedy) from error

    found = find_pictures([picture_of(row) for row in rows])
    return Pictures([*zip(rows, found, strict=True)], open_row)


def _split(
    uri: str, rows: Sequence[dict[str, Any]], divide: bool, strata: np.ndarray | None = None
) -> np.ndarray:
    """The rows' own splits where they name some; else by hash of their groups."""
    named = np.array([row["split"] for row in rows], dtype=object)
    if not (named != "").any():
        groups = [row["group"] for row in rows]
        return divided(groups, strata) if divide else np.array(["test"] * len(rows), dtype=object)
    if (named == "").any():
        row = rows[int(np.flatnonzero(named == "")[0])]
        raise _bad(uri, row, "no split, but other rows have one; write train, valid or test")
    if "test" not in named:
        named[named == "valid"] = "test"
    if "test" not in named:
        raise UserError(f"{uri}: no row has the split test; give some, or leave the column out")
    if divide and "train" not in named:
        raise UserError(f"{uri}: no row has the split train; give some, or leave the column out")
    return carve(named) if divide else named


def _check_classes(uri: str, count: int, what: str) -> None:
    if count < 2:
        raise UserError(f"{uri}: {count} {what} in all; give rows of two at least")


def classes(uri: str, divide: bool) -> Items:
    """Pictures with labels, in a folder a class or by a column."""
    rows = _listed(uri, IMAGE.kind)
    for row in rows:
        if not row["label"]:
            raise _bad(
                uri, row, "no label; give each row one, or lay pictures out as <class>/<picture>"
            )
    labels, names = classes_of([r["label"] for r in rows], lambda name: name.replace("_", " "))
    _check_classes(uri, int(labels.max()) + 1, "label")
    groups = np.array([r["group"] for r in rows])
    return Labelled(_pictures(uri, rows), labels, _split(uri, rows, divide, labels), names, groups)


def _text_rows(uri: str) -> list[dict[str, Any]]:
    rows = []
    for file in list_files(uri, "--tasks", TEXT.kind.hint):
        if not file.path.lower().endswith(TABLES) or is_hidden(file.path, open_place(uri)[1]):
            continue
        name = file.path.rpartition("/")[2]
        columns = (*TEXT_NAMES, "label", "split", "group")
        for number, values in read_table_rows(filesystem_of(uri), file.path, columns):
            key = f"{name}:{number}"
            if isinstance(values, str):
                raise _bad(uri, {"key": key}, f"{values}; mend the row or take it out")
            text, label = first(values, TEXT_NAMES), values.get("label")
            if not isinstance(text, str) or not text.strip():
                raise _bad(uri, {"key": key}, "no text; give each row one or take it out")
            if label is None or label == "":
                raise _bad(uri, {"key": key}, "no label; give each row one or take it out")
            split = str(values.get("split") or "").strip().lower()
            if split not in SPLITS:
                raise _bad(uri, {"key": key}, f"unknown split {split!r}: train, valid or test")
            group = values.get("group")
            rows.append(
                {
                    "key": key,
                    "text": text,
                    "label": str(label),
                    "split": SPLITS[split],
                    "group": text if group is None else str(group),
                }
            )
    if not rows:
        raise UserError(f"{uri}: it holds no rows; give a table with the columns text and label")
    return rows


def texts(uri: str, divide: bool) -> Items:
    """Texts with labels."""
    rows = _text_rows(uri)
    labels, names = classes_of([r["label"] for r in rows], str)
    _check_classes(uri, int(labels.max()) + 1, "label")
    return Texts(
        [r["text"] for r in rows],
        labels,
        _split(uri, rows, divide, labels),
        int(labels.max()) + 1,
        groups=np.array([r["group"] for r in rows]),
        length=_TEXT_TOKENS,
        class_names=names,
    )


def pairs(uri: str, divide: bool) -> Items:
    """Pictures with captions: the test rows; rows of one group belong together."""
    rows = _listed(uri, PAIR.kind)
    split = _split(uri, rows, divide)
    rows = [row for row, part in zip(rows, split, strict=True) if part == "test"]
    shown: dict[tuple[str, PictureRef], dict[str, Any]] = {}
    captions: dict[tuple[str, str], str] = {}
    for row in rows:
        shown.setdefault((row["group"], picture_of(row)), row)
        texts = [c.strip() for c in row["captions"] if c.strip()]
        if not texts:
            raise _bad(uri, row, "no caption; give each row one or take it out")
        for text in texts:
            captions.setdefault((row["group"], text.casefold()), text)
    return Captioned(
        _pictures(uri, list(shown.values())),
        np.array([group for group, _ in shown]),
        list(captions.values()),
        np.array([group for group, _ in captions]),
    )


def _answer(uri: str, row: dict[str, Any]) -> str:
    given = first(row["more"], ("answer", "answers"))
    texts = [str(a).strip() for a in (given if isinstance(given, list) else [given]) if a]
    if not any(texts):
        raise _bad(uri, row, "no answer; give each row one or take it out")
    return Counter(t.lower() for t in texts if t).most_common(1)[0][0]


def questions(uri: str, divide: bool) -> Items:
    """Questions about pictures; the commonest answers of the training part are the classes."""
    rows = _listed(uri, IMAGE.kind, ("question", "answer", "answers"))
    for row in rows:
        question = row["more"]["question"]
        if not isinstance(question, str) or not question.strip():
            raise _bad(uri, row, "no question; give each row one or take it out")
    answers = [_answer(uri, row) for row in rows]
    split = _split(uri, rows, divide)
    counts = Counter(a for a, part in zip(answers, split, strict=True) if part == "train")
    known = [answer for answer, _ in counts.most_common(_ANSWERS)]
    _check_classes(uri, len(known), "answer")
    index = {answer: i for i, answer in enumerate(known)}
    labels = np.array([index.get(a, -1) for a in answers], dtype=np.int64)
    kept = np.flatnonzero((split == "test") | (labels >= 0))
    rows = [rows[i] for i in kept]
    numbers: dict[str, int] = {}
    picture = np.array([numbers.setdefault(r["group"], len(numbers)) for r in rows])
    shown = {number: row for row, number in zip(reversed(rows), reversed(picture), strict=True)}
    return Texts(
        [row["more"]["question"] for row in rows],
        labels[kept],
        split[kept],
        len(known),
        pictures=_pictures(uri, [shown[i] for i in range(len(numbers))]),
        picture=picture,
        groups=picture,
        length=_QUESTION_TOKENS,
        class_names=tuple(known),
    )
