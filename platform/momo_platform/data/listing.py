"""One raw row of a picture or pair corpus, the same from every kind of source."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from momo_platform.data.columns import CAPTION_NAMES, IMAGE_NAMES
from momo_platform.data.text import LONGEST_CAPTION

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
        "group": pa.string(),
        "split": pa.string(),
        "label": pa.string(),
    }
)


def named(field_name: str, uri: str) -> str:
    """How messages name a source: `--image.source photos`, `--tasks mine=photos`."""
    return f"{field_name}{uri}" if field_name.endswith("=") else f"{field_name} {uri}"


def first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The value of the first of `names` that `row` has, or None."""
    return next((row[n] for n in names if row.get(n) is not None), None)


def _string(value: Any) -> str:
    return "" if value is None else str(value)


def make_row(
    source: str,
    key: str,
    values: Mapping[str, Any],
    root: str,
    folder: str = "",
    place: int | None = None,
) -> dict[str, Any]:
    """A row by ROW_SCHEMA, and `reason` (None for a usable one), of a table's row.

    Captions longer than any that is kept are cut here, so that a listing stays small; they are
    refused when the row is prepared.
    """
    image, captions = first(values, IMAGE_NAMES), first(values, CAPTION_NAMES)
    path = None
    if isinstance(image, str):
        path = image if image.startswith("/") else posixpath.join(folder, image)
        if "://" in image:
            root, path = image, None
    texts = captions if isinstance(captions, list) else [captions]
    split = _string(values.get("split"))
    reason = None if split.strip().lower() in SPLITS else f"unknown split: {split[:80]!r}"
    return {
        "reason": reason,
        "source": source,
        "key": key,
        "root": root,
        "path": path,
        "row": place,
        "offset": None,
        "size": None,
        "captions": [t[: LONGEST_CAPTION + 1] if isinstance(t, str) else "" for t in texts],
        # Rows of one picture belong together: a split must not divide them.
        "group": _string(values.get("group")) or (image if isinstance(image, str) else key),
        "split": SPLITS.get(split.strip().lower(), split),
        "label": _string(values.get("label")),
    }
