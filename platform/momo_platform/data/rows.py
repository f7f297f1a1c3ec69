"""What a Ray task does with a block of raw rows: each becomes usable or gets a reason."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from momo_platform.data.config import ImageConfig
from momo_platform.data.contained import Picture, prepare_pictures
from momo_platform.data.digests import shown_path
from momo_platform.data.encodings import to_utf8
from momo_platform.data.filesystems import read_files
from momo_platform.data.images import BadImage
from momo_platform.data.listing import ROW_SCHEMA, SPLITS, FileRef, picture_of
from momo_platform.data.raw_pictures import RawPicture, raw_pictures
from momo_platform.data.readers import reader_at
from momo_platform.data.text import BadText, clean_caption, normalise

_BLOCK, _DOCUMENTS = 256, 4096  # rows
_SVG = re.compile(rb"\s{0,64}<(?:svg\b|\w{1,20}:svg\b|\?xml\b|!--|!doctype\s+svg\b)", re.IGNORECASE)
_SVG_BEGINS = 512  # bytes
IMAGE_SCHEMA = pa.schema(
    {
        **{n: ROW_SCHEMA.field(n).type for n in ("source", "key", "group", "split", "label")},
        "image": pa.binary(),
        "captions": pa.list_(pa.string()),
        "width": pa.int32(),  # before it was capped
        "height": pa.int32(),
        "look": pa.binary(),  # for near duplicates, see near.py; null for plain pictures
        "reason": pa.string(),
        "file": pa.string(),  # the picture's own file, with its size and checksum
        "size": pa.int64(),
        "sha256": pa.string(),
    }
)
TEXT_SCHEMA = pa.schema({n: pa.string() for n in ("source", "key", "text", "split", "reason")})
_WITH_GROUP = TEXT_SCHEMA.append(pa.field("group", pa.string()))


def _usable_captions(captions: list[str], why_none: str | None) -> list[str]:
    """The captions that are not empty. Raises BadText when there is none."""
    kept, bad = [], BadText("the caption is empty")
    for caption in captions:
        try:
            kept.append(clean_caption(caption))
        except BadText as error:
            bad = error
    if not kept:
        raise BadText(why_none) if why_none else bad
    return kept


def _is_svg(row: dict[str, Any], raw: bytes) -> bool:
    if (row["path"] or row["root"]).lower().endswith(".svg"):
        return True
    return _SVG.match(to_utf8(raw[:_SVG_BEGINS], whole=False)) is not None


class PrepareImages:
    """Rows by ROW_SCHEMA → blocks by IMAGE_SCHEMA, pictures encoded, in a task."""

    def __init__(self, image: ImageConfig, with_captions: bool) -> None:
        self.image, self.with_captions = image, with_captions
        self.row_bytes = 4 * image.size_cap**2
        """About what a row has at most: three bytes a pixel, and its longer side."""

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        raw = table.to_pylist()
        pictures = raw_pictures([picture_of(row) for row in raw if not row.get("reason")])
        for start in range(0, max(1, len(raw)), _BLOCK):
            rows = self._prepared(raw[start : start + _BLOCK], pictures)
            yield pa.Table.from_pylist(rows, schema=IMAGE_SCHEMA)

    def _prepared(
        self, raw: list[dict[str, Any]], pictures: Iterator[RawPicture]
    ) -> list[dict[str, Any]]:
        rows, read = [self._begun(row) for row in raw], deque[dict[str, Any]]()

        def usable() -> Iterator[Picture]:
            for row, result in zip(raw, rows, strict=True):
                picture = None if row.get("reason") else next(pictures)
                if picture is None or result["reason"]:
                    continue
                try:
                    encoded = picture.raw()
                except BadImage as error:
                    result["reason"] = str(error)
                    continue
                if isinstance(picture.place, FileRef):
                    path = picture.place.path or picture.place.root
                    result["file"] = shown_path(row["root"], path)
                    result["size"] = len(encoded)
                    result["sha256"] = hashlib.sha256(encoded).hexdigest()
                read.append(result)
                yield encoded, _is_svg(row, encoded)

        for made in prepare_pictures(usable(), self.image):
            result = read.popleft()
            result |= {"reason": str(made)} if isinstance(made, BadImage) else vars(made)
        return rows

    def _begun(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row by IMAGE_SCHEMA without its picture."""
        result = {n: row[n] for n in ("source", "key", "group", "split", "label")}
        result |= {"image": None, "captions": [], "reason": row.get("reason")}
        if self.with_captions and not result["reason"]:
            try:
                result["captions"] = _usable_captions(row["captions"], row["no_caption"])
            except BadText as error:
                result["reason"] = str(error)
        return result


class PrepareText:
    """A block of places of text → blocks of documents by TEXT_SCHEMA, and `group`, in a task."""

    def __init__(self, min_length: int) -> None:
        self.min_length = min_length

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        for item in table.to_pylist():
            name, rows = item["path"].rpartition("/")[2], []
            documents = reader_at(item["root"], item["path"]).documents(item)
            for number, text, split, reason, group in documents:
                split = split.strip().lower()
                if split not in SPLITS:
                    reason = f"unknown split: {split[:80]!r}"
                cleaned = normalise(text) if text is not None else ""
                if reason is None and len(cleaned) < self.min_length:
                    reason = f"shorter than {self.min_length} characters"
                key = f"{name}:{number}" if number else name
                row = {"source": item["source"], "key": key, "text": cleaned, "reason": reason}
                rows.append(row | {"split": SPLITS.get(split, ""), "group": group})
                if len(rows) == _DOCUMENTS:
                    yield pa.Table.from_pylist(rows, schema=_WITH_GROUP)
                    rows = []
            yield pa.Table.from_pylist(rows, schema=_WITH_GROUP)


class PrepareFiles:
    """Files as `ListFiles` has them → their bytes through `read`, in a task.

    `read` gives the columns that are yours, or {"reason": why the file can't be used}.
    """

    def __init__(self, read: Callable[[bytes], dict[str, Any]], schema: pa.Schema) -> None:
        self.read, self.schema = read, schema

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        listed = table.to_pylist()
        reads = read_files((row["root"], row["path"]) for row in listed)
        for start in range(0, max(1, len(listed)), _BLOCK):
            rows = [self._prepared(r, next(reads)) for r in listed[start : start + _BLOCK]]
            yield pa.Table.from_pylist(rows, schema=self.schema)

    def _prepared(self, row: dict[str, Any], read: Callable[[], bytes]) -> dict[str, Any]:
        try:
            raw = read()
        except PermissionError as error:
            return row | {"reason": f"the file can't be read: {error}"}
        facts = {"file": shown_path(row["root"], row["path"]), "size": len(raw)}
        return row | facts | {"sha256": hashlib.sha256(raw).hexdigest()} | self.read(raw)


def file_schema(**columns: pa.DataType) -> pa.Schema:
    """Of rows by `PrepareFiles` with these columns."""
    texts = ("source", "key", "group", "split", "reason", "file", "sha256")
    return pa.schema({n: pa.string() for n in texts} | {"size": pa.int64()} | columns)
