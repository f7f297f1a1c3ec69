"""What a Ray task does with a block of raw rows: each becomes usable or gets a reason."""

from __future__ import annotations

import errno
import hashlib
import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from momo_platform.data.columns import TEXT_NAMES
from momo_platform.data.config import ImageConfig
from momo_platform.data.digests import shown_path
from momo_platform.data.images import LARGEST_FILE, BadImage, prepare_picture
from momo_platform.data.listing import ROW_SCHEMA, SPLITS
from momo_platform.data.readers.hub import is_hub, read_pictures, read_texts
from momo_platform.data.readers.tables import (
    LONGEST_LINE,
    filesystem_of,
    lines,
    read_embedded,
    read_picture,
    read_table_rows,
)
from momo_platform.data.readers.tar import is_tar, read_documents, read_member
from momo_platform.data.splits import Shares
from momo_platform.data.text import BadText, clean_caption, decode_lines, normalise

ROWS_HELD = 64
"""Pictures whose bytes a task holds at once, where a table or data set embeds them."""
_DOCUMENTS = 4096
_SVG = re.compile(rb"(?:\xef\xbb\xbf)?\s{0,64}<(?:svg|\?xml)\b")
# What the operating system says of a path that no file can have.
_BAD_PATH = {errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.ENODEV}
Embedded = bytes | str | BadImage | None
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


def raw_picture(row: dict[str, Any], embedded: Embedded) -> bytes:
    """The picture's bytes as they are stored. Raises BadImage when there are none to be had."""
    if isinstance(embedded, bytes):
        return embedded
    if isinstance(embedded, BadImage):
        raise embedded
    root, path = row["root"], row["path"]
    if row["offset"] is not None:
        return read_member(root, path, row["offset"], row["size"])
    if row["row"] is not None:
        if not embedded:
            raise BadImage("the row names no picture")
        path = posixpath.join(posixpath.dirname(path), embedded)
    elif (path is None and "://" not in root) or (path or "").endswith("/"):
        raise BadImage("the row names no picture")
    try:
        return read_picture(root, path, LARGEST_FILE + 1)
    except FileNotFoundError:
        raise BadImage(f"the picture does not exist: {path or root}") from None
    except (NotADirectoryError, IsADirectoryError, PermissionError, pa.ArrowInvalid) as error:
        raise BadImage(f"the picture can't be opened: {error}") from error
    except OSError as error:
        own_check = error.errno is None and "is a directory" in str(error)  # pyarrow's
        if own_check or error.errno in _BAD_PATH:
            raise BadImage(f"the picture can't be opened: {error}") from error
        raise  # the disk or the network: not this row's fault


def embedded_pictures(root: str, path: str, rows: list[int]) -> Mapping[int, Embedded]:
    """Row → its picture's bytes or path out of a table or data set, or why it has none."""
    if is_hub(root):
        return read_pictures(root, path, rows)
    try:
        return read_embedded(root, path, rows)
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk or the network
        return dict.fromkeys(rows, BadImage(f"the table is damaged: {error}"))


def _usable_captions(captions: list[str]) -> list[str]:
    """The captions that are not empty. Raises BadText when there is none."""
    kept, bad = [], BadText("the caption is empty")
    for caption in captions:
        try:
            kept.append(clean_caption(caption))
        except BadText as error:
            bad = error
    if not kept:
        raise bad
    return kept


def _prepare_row(
    row: dict[str, Any], image: ImageConfig, with_captions: bool, embedded: Embedded
) -> dict[str, Any]:
    """One raw row → one row by IMAGE_SCHEMA, with a reason when it can't be used."""
    result = {n: row[n] for n in ("source", "key", "group", "split", "label")}
    result |= {"image": None, "captions": [], "reason": row.get("reason")}
    if result["reason"]:
        return result
    try:
        if with_captions:
            result["captions"] = _usable_captions(row["captions"])
        raw = raw_picture(row, embedded)
        if not isinstance(embedded, bytes) and row["offset"] is None:
            place = row["path"] or row["root"]
            if row["row"] is not None:
                place = posixpath.join(posixpath.dirname(row["path"]), str(embedded))
            result["file"] = shown_path(row["root"], place)
            result["size"], result["sha256"] = len(raw), hashlib.sha256(raw).hexdigest()
        named = (row["path"] or row["root"]).lower().endswith(".svg")
        svg = named or _SVG.match(raw) is not None
        result |= vars(prepare_picture(raw, image, svg=svg))
    except (BadImage, BadText) as error:
        result["reason"] = str(error)
    return result


class PrepareImages:
    """A block by ROW_SCHEMA → one by IMAGE_SCHEMA, pictures encoded, in a Ray task."""

    def __init__(self, image: ImageConfig, with_captions: bool) -> None:
        self.image, self.with_captions = image, with_captions

    def __call__(self, table: pa.Table) -> pa.Table:
        raw = table.to_pylist()
        parts = (raw[i : i + ROWS_HELD] for i in range(0, len(raw), ROWS_HELD))
        rows = [row for part in parts for row in self._prepare(part)]
        return pa.Table.from_pylist(rows, schema=IMAGE_SCHEMA)

    def _prepare(self, raw: list[dict[str, Any]]) -> list[dict[str, Any]]:
        places: dict[tuple[str, str], list[int]] = {}
        for row in raw:
            if row["row"] is not None and not row.get("reason"):
                places.setdefault((row["root"], row["path"]), []).append(row["row"])
        embedded = {table: embedded_pictures(*table, rows) for table, rows in places.items()}
        return [
            _prepare_row(
                r,
                self.image,
                self.with_captions,
                embedded.get((r["root"], r["path"]), {}).get(r["row"]),
            )
            for r in raw
        ]


class PrepareText:
    """A block of text files → blocks of documents by TEXT_SCHEMA, in a Ray task."""

    def __init__(self, min_length: int, shares: Shares) -> None:
        self.min_length, self.shares = min_length, shares

    def _documents(
        self, item: dict[str, Any]
    ) -> Iterator[tuple[str, str | None, str, str | None, str]]:
        """(name in the file, text, split as it is written, reason, group) of a place's
        documents."""
        root, path = item["root"], item["path"]
        if item.get("stop") is None and is_tar(path):
            yield from ((*found, "") for found in read_documents(root, path))
            return
        if item.get("stop") is None and path.endswith(".txt"):
            with filesystem_of(root).open_input_stream(path) as file:
                for number, line in decode_lines(lines(file)):
                    reason = None if line is not None else "the line is not UTF-8"
                    if line is not None and len(line) > LONGEST_LINE // 4:
                        line, reason = None, f"longer than {LONGEST_LINE // 4} characters"
                    yield str(number), line, "", reason, ""
            return
        if item.get("stop") is not None:
            rows = read_texts(root, path, item["start"], item["stop"])
        else:
            rows = read_table_rows(filesystem_of(root), path, (*TEXT_NAMES, "split", "group"))
        for number, row in rows:
            if isinstance(row, str):
                yield str(number), None, "", row, ""
                continue
            text = next((row[n] for n in TEXT_NAMES if isinstance(row.get(n), str)), None)
            reason = None if text is not None else "the row has no text"
            group = "" if row.get("group") is None else str(row["group"])
            yield str(number), text, str(row.get("split") or ""), reason, group

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        for item in table.to_pylist():
            name, rows = item["path"].rpartition("/")[2], []
            for number, text, split, reason, group in self._documents(item):
                split = split.strip().lower()
                if split not in SPLITS:
                    reason = f"unknown split: {split[:80]!r}"
                split = SPLITS.get(split, "")
                cleaned = normalise(text) if text is not None else ""
                if reason is None and len(cleaned) < self.min_length:
                    reason = f"shorter than {self.min_length} characters"
                key = f"{name}:{number}" if number else name
                rows.append(
                    {
                        "source": item["source"],
                        "key": key,
                        "text": cleaned,
                        "split": split or self.shares.split_of(group or cleaned),
                        "reason": reason,
                    }
                )
                if len(rows) == _DOCUMENTS:
                    yield pa.Table.from_pylist(rows, schema=TEXT_SCHEMA)
                    rows = []
            yield pa.Table.from_pylist(rows, schema=TEXT_SCHEMA)
