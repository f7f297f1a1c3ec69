"""What a Ray task does with a block of raw rows: each becomes usable or gets a reason."""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from momo_platform.data.config import ImageConfig
from momo_platform.data.digests import shown_path
from momo_platform.data.encodings import to_utf8
from momo_platform.data.filesystems import read_file, read_span
from momo_platform.data.images import LARGEST_FILE, BadImage, prepare_picture
from momo_platform.data.listing import (
    ROW_SCHEMA,
    SPLITS,
    FileRef,
    PictureRef,
    RowRef,
    SpanRef,
    picture_of,
)
from momo_platform.data.readers import reader_at
from momo_platform.data.text import BadText, clean_caption, normalise

ROWS_HELD = 64
"""Pictures whose bytes a task holds at once, where a table or data set embeds them."""
_DOCUMENTS = 4096
_SHOWN = 500  # characters of a path in a reason
_SVG = re.compile(rb"\s{0,64}<(?:svg\b|\w{1,20}:svg\b|\?xml\b|!--|!doctype\s+svg\b)", re.IGNORECASE)
_SVG_BEGINS = 512  # bytes
# What the operating system says of a path that no file can have.
_BAD_PATH = {errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.ENODEV}
_REFUSED = re.compile("ACCESS_DENIED|NO_SUCH_|UNRECOGNIZED|credentials", re.IGNORECASE)
Found = bytes | FileRef | SpanRef | BadImage | None
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


def find_pictures(refs: Sequence[PictureRef]) -> list[Found]:
    """What is at each place: rows are looked up in their tables; files are not opened yet."""
    rows: dict[tuple[str, str], list[int]] = {}
    for ref in refs:
        if isinstance(ref, RowRef):
            rows.setdefault((ref.root, ref.path), []).append(ref.row)
    held = {place: reader_at(*place).read(*place, numbers) for place, numbers in rows.items()}
    return [
        held[ref.root, ref.path].get(ref.row) if isinstance(ref, RowRef) else ref for ref in refs
    ]


def raw_picture(found: Found) -> bytes:
    """The picture's bytes as they are stored. Raises BadImage when there are none to be had."""
    if isinstance(found, bytes):
        return found
    if isinstance(found, BadImage):
        raise found
    if isinstance(found, SpanRef):
        raw = read_span(found.root, found.path, found.offset, found.size)
        if len(raw) < found.size:
            raise BadImage("the tar is shorter than when it was listed")
        return raw
    if found is None or found.path == "" or (found.path or "").endswith("/"):
        raise BadImage("the row names no picture")
    if found.root.startswith(("http://", "https://")):
        raise BadImage(f"the picture is a web address; fetch it with img2dataset: {found.root}")
    if found.root.startswith("hf://"):
        raise BadImage(f"the picture is a file on the hub; download the set first: {found.path}")
    try:
        return read_file(found.root, found.path, LARGEST_FILE + 1)
    except FileNotFoundError:
        raise BadImage(
            f"the picture does not exist: {(found.path or found.root)[:_SHOWN]}"
        ) from None
    except (NotADirectoryError, IsADirectoryError, PermissionError, pa.ArrowInvalid) as error:
        raise BadImage(f"the picture can't be opened: {str(error)[:_SHOWN]}") from error
    except OSError as error:
        own_check = error.errno is None and "is a directory" in str(error)  # pyarrow's
        refused = found.path is None and _REFUSED.search(str(error))  # a place of its own
        if own_check or refused or error.errno in _BAD_PATH:
            raise BadImage(f"the picture can't be opened: {str(error)[:_SHOWN]}") from error
        raise  # the disk or the network: not this row's fault


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


def _prepare_row(
    row: dict[str, Any], image: ImageConfig, with_captions: bool, found: Found
) -> dict[str, Any]:
    """One raw row → one row by IMAGE_SCHEMA, with a reason when it can't be used."""
    result = {n: row[n] for n in ("source", "key", "group", "split", "label")}
    result |= {"image": None, "captions": [], "reason": row.get("reason")}
    if result["reason"]:
        return result
    try:
        if with_captions:
            result["captions"] = _usable_captions(row["captions"], row["no_caption"])
        raw = raw_picture(found)
        if isinstance(found, FileRef):
            result["file"] = shown_path(row["root"], found.path or found.root)
            result["size"], result["sha256"] = len(raw), hashlib.sha256(raw).hexdigest()
        named = (row["path"] or row["root"]).lower().endswith(".svg")
        head = to_utf8(raw[:_SVG_BEGINS], whole=False)
        svg = named or _SVG.match(head) is not None
        result |= vars(prepare_picture(raw, image, svg=svg))
    except (BadImage, BadText) as error:
        result["reason"] = str(error)
    return result


class PrepareImages:
    """A block by ROW_SCHEMA → one by IMAGE_SCHEMA, pictures encoded, in a Ray task."""

    def __init__(self, image: ImageConfig, with_captions: bool) -> None:
        self.image, self.with_captions = image, with_captions
        self.row_bytes = 4 * image.size_cap**2
        """About what a row has at most: three bytes a pixel, and its longer side."""

    def __call__(self, table: pa.Table) -> pa.Table:
        raw = table.to_pylist()
        parts = (raw[i : i + ROWS_HELD] for i in range(0, len(raw), ROWS_HELD))
        rows = [row for part in parts for row in self._prepare(part)]
        return pa.Table.from_pylist(rows, schema=IMAGE_SCHEMA)

    def _prepare(self, raw: list[dict[str, Any]]) -> list[dict[str, Any]]:
        usable = [row for row in raw if not row.get("reason")]
        found = iter(find_pictures([picture_of(row) for row in usable]))
        return [
            _prepare_row(
                row, self.image, self.with_captions, None if row.get("reason") else next(found)
            )
            for row in raw
        ]


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
    """A block of files as `ListFiles` has them → their bytes through `read`, in a task.

    `read` gives the columns that are yours, or {"reason": why the file can't be used}.
    """

    def __init__(self, read: Callable[[bytes], dict[str, Any]], schema: pa.Schema) -> None:
        self.read, self.schema = read, schema

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = []
        for listed in table.to_pylist():
            try:
                raw = read_file(listed["root"], listed["path"])
            except PermissionError as error:
                rows.append(listed | {"reason": f"the file can't be read: {error}"})
                continue
            facts = {"file": shown_path(listed["root"], listed["path"]), "size": len(raw)}
            facts["sha256"] = hashlib.sha256(raw).hexdigest()
            rows.append(listed | facts | self.read(raw))
        return pa.Table.from_pylist(rows, schema=self.schema)


def file_schema(**columns: pa.DataType) -> pa.Schema:
    """Of rows by `PrepareFiles` with these columns."""
    texts = ("source", "key", "group", "split", "reason", "file", "sha256")
    return pa.schema({n: pa.string() for n in texts} | {"size": pa.int64()} | columns)
