"""One raw row of a picture or pair corpus, the same from every kind of source."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from momo_platform.data.columns import CAPTION_NAMES, IMAGE_NAMES, JSON_NAME
from momo_platform.data.text import LONGEST_CAPTION, BadText, decode_caption, parse_json

SPLITS = {
    "": "",
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
    "test": "test",
}
ROW_SCHEMA = pa.schema(
    {
        "source": pa.string(),
        "key": pa.string(),
        "root": pa.string(),  # a path or URI of the file system that `path` lies in
        "path": pa.string(),  # the picture, or the Parquet file, tar or split that holds it
        "row": pa.int64(),  # the row in that Parquet file or split, from 0; null outside of them
        "offset": pa.int64(),  # where the picture's bytes begin in that tar; null outside of one
        "size": pa.int64(),  # how many bytes they are; null outside of a tar
        "captions": pa.list_(pa.string()),
        "no_caption": pa.string(),  # why there is none, where it is not that it is empty
        "group": pa.string(),
        "split": pa.string(),
        "label": pa.string(),
    }
)


@dataclass(frozen=True)
class FileRef:
    """A picture that is a file of its own; without a path, `root` is the picture's own URI."""

    root: str
    path: str | None = None


@dataclass(frozen=True)
class RowRef:
    """A picture in a row (from 0) of what its reader counts rows of: a table, a split …"""

    root: str
    path: str
    row: int


@dataclass(frozen=True)
class SpanRef:
    """A picture whose bytes stand in a larger file, a tar."""

    root: str
    path: str
    offset: int
    size: int


PictureRef = FileRef | RowRef | SpanRef
_WORDS = (((bool, int, float), "a number"), (dict, "an object"), (list, "a list"))
_LONGEST_NAME = 4096  # of a path in Linux; web addresses are shorter too
_COLUMNS = dict.fromkeys(("root", "path", "row", "offset", "size"))


def picture_of(row: Mapping[str, Any]) -> PictureRef:
    """Where the picture of a row by ROW_SCHEMA is."""
    if row["row"] is not None:
        return RowRef(row["root"], row["path"], row["row"])
    if row["offset"] is not None:
        return SpanRef(row["root"], row["path"], row["offset"], row["size"])
    return FileRef(row["root"], row["path"])


def file_ref(root: str, folder: str, name: str) -> FileRef:
    """The file that a row names: from `folder` on, by its whole path, or by its own URI."""
    return FileRef(name) if "://" in name else FileRef(root, posixpath.join(folder, name))


def named(field_name: str, uri: str) -> str:
    """How messages name a source: `--image.source photos`, `--tasks mine=photos`."""
    return f"{field_name}{uri}" if field_name.endswith("=") else f"{field_name} {uri}"


def first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The value of the first of `names` that `row` has, or None."""
    return next((row[n] for n in names if row.get(n) is not None), None)


def _missing(value: Any) -> bool:
    """Also empty texts, and NaN, as which pandas writes what is missing."""
    return value is None or (isinstance(value, str) and not value) or value != value


def _string(value: Any) -> str:
    return "" if _missing(value) else str(value)


def _caption_texts(captions: Any) -> tuple[list[str], str | None]:
    """Captions as texts, "" where one is none, and why one is none."""
    texts, why = [], None
    for caption in captions if isinstance(captions, list) else [captions]:
        if isinstance(caption, bytes):
            try:
                caption = decode_caption(caption)
            except BadText as error:
                caption, why = None, str(error)
        elif not (isinstance(caption, str) or _missing(caption)):
            word = next((w for t, w in _WORDS if isinstance(caption, t)), type(caption).__name__)
            why = f"the caption is {word}, not text: {str(caption)[:80]}"
        texts.append(caption[: LONGEST_CAPTION + 1] if isinstance(caption, str) else "")
    return texts, why


def _no_name(image: str) -> str | None:
    """Why a text is no picture's name or address, or None."""
    if image[:5].lower() == "data:":
        return (
            f"the picture is a data URI, {image[:40]!r}; write its bytes into a column of Parquet, "
            "or as a file"
        )
    if len(image) > _LONGEST_NAME:
        return f"the picture's name has {len(image)} characters: {image[:40]!r}"
    return None


def _with_json(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row with what its column `json` holds beside the others, if that is an object."""
    found = values.get(JSON_NAME)
    if isinstance(found, bytes | str):
        raw = found if isinstance(found, bytes) else found.encode("utf-8", "surrogatepass")
        found = parse_json(raw)
    if not isinstance(found, dict):
        return values
    known = {name: value for name, value in values.items() if value is not None}
    own = {*IMAGE_NAMES, *(CAPTION_NAMES if first(known, CAPTION_NAMES) is not None else ())}
    return {n: v for n, v in found.items() if n not in own} | known


def make_row(
    source: str,
    key: str,
    values: Mapping[str, Any],
    root: str,
    folder: str = "",
    picture: PictureRef | None = None,
) -> dict[str, Any]:
    """A row by ROW_SCHEMA, and `reason` (None for a usable one), of a table's row.

    `picture`: where it is, if `values` do not name it. Captions longer than any that is kept are
    cut here, so that a listing stays small; they are refused when the row is prepared.
    """
    values = _with_json(values)
    image = next((values[n] for n in IMAGE_NAMES if not _missing(values.get(n))), None)
    captions = first(values, CAPTION_NAMES)
    if isinstance(image, dict):  # as `datasets` has it, of a file elsewhere
        image = image.get("path")
    split = _string(values.get("split"))
    reason = None if split.strip().lower() in SPLITS else f"unknown split: {split[:80]!r}"
    if isinstance(image, str) and (why := _no_name(image)):
        image, reason = None, reason or (why if picture is None else None)
    if picture is None:
        picture = file_ref(root, folder, image) if isinstance(image, str) else FileRef(root, "")
    texts, no_caption = _caption_texts(captions)
    return {
        "reason": reason,
        "source": source,
        "key": key,
        **_COLUMNS,
        **vars(picture),
        "captions": texts,
        "no_caption": no_caption,
        # Rows of one picture belong together: a split must not divide them.
        "group": _string(values.get("group")) or (image if isinstance(image, str) else key),
        "split": SPLITS.get(split.strip().lower(), split),
        "label": _string(values.get("label")),
    }
