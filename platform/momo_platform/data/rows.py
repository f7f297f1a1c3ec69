"""What a Ray task does with a block of raw rows: each becomes usable or gets a reason."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from momo_platform.data.digests import shown_path
from momo_platform.data.images import BadImage, ImageConfig, prepare_picture
from momo_platform.data.sources import ROW_SCHEMA, SPLITS, TEXT_NAMES
from momo_platform.data.tables import (
    filesystem_of,
    lines,
    read_embedded,
    read_picture,
    read_table_rows,
)
from momo_platform.data.text import BadText, clean_caption, decode_lines, normalise

_DOCUMENTS = 4096
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


def split_of(group: str, held_out: float) -> str:
    """ "test" for the share `held_out` of all groups, chosen by hash; else "train"."""
    digest = hashlib.sha256(group.encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") < held_out * 2**64 else "train"


def _raw_picture(row: dict[str, Any], embedded: bytes | str | None) -> bytes:
    """The picture's bytes as they are stored. Raises BadImage when there are none to be had."""
    if isinstance(embedded, bytes):
        return embedded
    root, path = row["root"], row["path"]
    if row["row"] is not None:
        if not embedded:
            raise BadImage("the row names no picture")
        path = posixpath.join(posixpath.dirname(path), embedded)
    elif (path is None and "://" not in root) or (path or "").endswith("/"):
        raise BadImage("the row names no picture")
    try:
        return read_picture(root, path)
    except FileNotFoundError:
        raise BadImage(f"the picture does not exist: {path or root}") from None
    except (NotADirectoryError, IsADirectoryError, PermissionError, pa.ArrowInvalid) as error:
        raise BadImage(f"the picture can't be opened: {error}") from error
    except OSError as error:
        if error.errno is None and "is a directory" in str(error):  # pyarrow's own check
            raise BadImage(f"the picture can't be opened: {error}") from error
        raise  # the disk or the network: not this row's fault


def _usable_captions(captions: list[str]) -> list[str]:
    """The captions that are not empty. Raises BadText when there is none."""
    kept = []
    for caption in captions:
        try:
            kept.append(clean_caption(caption))
        except BadText:
            continue
    if not kept:
        raise BadText("the caption is empty")
    return kept


def _prepare_row(
    row: dict[str, Any], image: ImageConfig, with_captions: bool, embedded: bytes | str | None
) -> dict[str, Any]:
    """One raw row → one row by IMAGE_SCHEMA, with a reason when it can't be used."""
    result = {n: row[n] for n in ("source", "key", "group", "split", "label")}
    result |= {"image": None, "captions": [], "reason": row.get("reason")}
    if result["reason"]:
        return result
    try:
        if with_captions:
            result["captions"] = _usable_captions(row["captions"])
        raw = _raw_picture(row, embedded)
        if not isinstance(embedded, bytes):
            place = row["path"] or row["root"]
            if row["row"] is not None:
                place = posixpath.join(posixpath.dirname(row["path"]), str(embedded))
            result["file"] = shown_path(row["root"], place)
            result["size"], result["sha256"] = len(raw), hashlib.sha256(raw).hexdigest()
        svg = (row["path"] or row["root"]).lower().endswith(".svg")
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
        places: dict[tuple[str, str], list[int]] = {}
        for row in raw:
            if row["row"] is not None:
                places.setdefault((row["root"], row["path"]), []).append(row["row"])
        embedded = {table: read_embedded(*table, rows) for table, rows in places.items()}
        rows = [
            _prepare_row(
                r,
                self.image,
                self.with_captions,
                embedded.get((r["root"], r["path"]), {}).get(r["row"]),
            )
            for r in raw
        ]
        return pa.Table.from_pylist(rows, schema=IMAGE_SCHEMA)


class PrepareText:
    """A block of text files → blocks of documents by TEXT_SCHEMA, in a Ray task."""

    def __init__(self, min_length: int, held_out: float) -> None:
        self.min_length, self.held_out = min_length, held_out

    def _documents(self, root: str, path: str) -> Iterator[tuple[int, str | None, str, str | None]]:
        """(number, text, split, reason) of a file's documents."""
        filesystem = filesystem_of(root)
        if path.endswith(".txt"):
            with filesystem.open_input_stream(path) as file:
                for number, line in decode_lines(lines(file)):
                    yield number, line, "", None if line is not None else "the line is not UTF-8"
            return
        for number, row in read_table_rows(filesystem, path, (*TEXT_NAMES, "split")):
            if isinstance(row, str):
                yield number, None, "", row
                continue
            text = next((row[n] for n in TEXT_NAMES if isinstance(row.get(n), str)), None)
            reason = None if text is not None else "the row has no text"
            split = str(row.get("split") or "").strip().lower()
            if split not in SPLITS:
                reason = f"unknown split: {split!r}"
            yield number, text, SPLITS.get(split, split), reason

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        for item in table.to_pylist():
            name, rows = item["path"].rpartition("/")[2], []
            for number, text, split, reason in self._documents(item["root"], item["path"]):
                cleaned = normalise(text) if text is not None else ""
                if reason is None and len(cleaned) < self.min_length:
                    reason = f"shorter than {self.min_length} characters"
                key = f"{name}:{number}"
                rows.append(
                    {
                        "source": item["source"],
                        "key": key,
                        "text": cleaned,
                        "split": split or split_of(key, self.held_out),
                        "reason": reason,
                    }
                )
                if len(rows) == _DOCUMENTS:
                    yield pa.Table.from_pylist(rows, schema=TEXT_SCHEMA)
                    rows = []
            yield pa.Table.from_pylist(rows, schema=TEXT_SCHEMA)
