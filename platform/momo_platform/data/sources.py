"""Corpora as people have them: folders, Parquet, JSONL, CSV, plain text; local or by URI.

`list_rows` names what there is without reading pictures; bytes are read later, in Ray tasks, by
`tables.read_picture` and `tables.read_embedded`. A listing takes about 1 kB of memory a row.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from momo_platform.data.images import EXTENSIONS
from momo_platform.data.tables import (
    IMAGE_NAMES,
    embedded_column,
    filesystem_of,
    open_uri,
    read_table_rows,
)
from momo_platform.stages.errors import UserError

Kind = Literal["images", "text", "pairs"]
TEXT_NAMES = ("text", "content", "document", "sentence")
CAPTION_NAMES = ("caption", "captions", "text", "sentence", "title", "alt")
_TABLES = (".parquet", ".jsonl", ".csv", ".tsv")
_TEXTS = (".txt", *_TABLES)
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
_HINT = {
    "images": "give a folder of pictures, a Parquet file, or JSONL/CSV with picture paths",
    "text": "give a .txt file (one document a line), a folder of them, JSONL, CSV or Parquet",
    "pairs": "give Parquet, JSONL or CSV with a picture and a caption a row, or a folder of them",
}
ROW_SCHEMA = pa.schema(
    {
        "source": pa.string(),
        "key": pa.string(),
        "root": pa.string(),  # a path or URI of the file system that `path` lies in
        "path": pa.string(),  # the picture, or the Parquet file that embeds it
        "row": pa.int64(),  # the row in that Parquet file, from 0; null for a file of its own
        "captions": pa.list_(pa.string()),
        "group": pa.string(),
        "split": pa.string(),
        "label": pa.string(),
    }
)


@dataclass(frozen=True)
class SourceConfig:
    """One corpus. `uri` is a path or URI; `input:<role>/<path>` lies in an input stage's output.

    `content` is the listing's digest (names, sizes, times), filled when the graph is built, so
    that a changed corpus is prepared again and a moved one is not. `weight` is how often a row
    comes in an epoch (0.5: every second row; 3: each three times).
    """

    name: str
    uri: str = field(metadata={"semantic": False})
    content: str = ""
    weight: float = 1.0
    licence: str = ""


def list_files(uri: str, field_name: str, kind: Kind) -> list[pafs.FileInfo]:
    """All files at a path or below a folder, sorted. Raises UserError when there are none."""
    try:
        filesystem, path = open_uri(uri)
        info = filesystem.get_file_info(path)
        if info.type == pafs.FileType.NotFound:
            raise UserError(f"{field_name} {uri}: no such file or folder; {_HINT[kind]}")
        if info.type == pafs.FileType.File:
            return [info]
        found = filesystem.get_file_info(pafs.FileSelector(path, recursive=True))
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{field_name} {uri}: {error}; {_HINT[kind]}") from error
    files = [f for f in found if f.type == pafs.FileType.File]
    if not files:
        raise UserError(f"{field_name} {uri}: the folder is empty; {_HINT[kind]}")
    return sorted(files, key=lambda f: f.path)


def identify(uri: str, field_name: str, kind: Kind) -> str:
    """16 hex digits over relative names, sizes and times of a corpus; checks that it exists."""
    files = list_files(uri, field_name, kind)
    _, root = open_uri(uri)
    digest = hashlib.sha256()
    for file in files:
        name = posixpath.relpath(file.path, root)
        digest.update(f"{name}\0{file.size}\0{file.mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _first(row: dict[str, Any], names: Sequence[str]) -> Any:
    return next((row[n] for n in names if row.get(n) is not None), None)


def _string(value: Any) -> str:
    return "" if value is None else str(value)


def _row(
    source: str, key: str, values: dict[str, Any], root: str, folder: str, place: int | None = None
) -> dict[str, Any]:
    image, captions = _first(values, IMAGE_NAMES), _first(values, CAPTION_NAMES)
    path = None
    if isinstance(image, str):
        path = image if image.startswith("/") else posixpath.join(folder, image)
        if "://" in image:
            root, path = image, None
    texts = captions if isinstance(captions, list) else [captions]
    split = _string(values.get("split"))
    reason = None if split.strip().lower() in SPLITS else f"unknown split: {split!r}"
    return {
        "reason": reason,
        "source": source,
        "key": key,
        "root": root,
        "path": path,
        "row": place,
        "captions": [t if isinstance(t, str) else "" for t in texts],
        # Rows of one picture belong together: a split must not divide them.
        "group": _string(values.get("group")) or (image if isinstance(image, str) else key),
        "split": SPLITS.get(split.strip().lower(), split),
        "label": _string(values.get("label")),
    }


def _check_columns(path: str, names: Iterable[str], kind: Kind, embedded: bool) -> None:
    """Raise UserError for a table that lacks what its kind needs."""
    names = [str(n) for n in names]
    needed = [] if embedded else [("picture", IMAGE_NAMES)]
    needed += [("caption", CAPTION_NAMES)] if kind == "pairs" else []
    for what, known in needed:
        if not set(names) & set(known):
            raise UserError(
                f"{kind}.source {path}: no column with the {what}; it has {', '.join(names)!r}, "
                f"rename one to {known[0]} (or {', '.join(known[1:4])})"
            )


def _table_rows(source: str, root: str, path: str, kind: Kind) -> Iterator[dict[str, Any]]:
    filesystem, folder = filesystem_of(root), posixpath.dirname(path)
    columns: set[str] | None = None
    embedded = None
    if path.endswith(".parquet"):
        try:
            schema = pq.read_schema(path, filesystem=filesystem)
            embedded = embedded_column(schema)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{path} is not readable Parquet: {error}; replace it") from error
        _check_columns(path, schema.names, kind, embedded is not None)
        columns = {*CAPTION_NAMES, "group", "split", "label"}
        columns |= set() if embedded else set(IMAGE_NAMES)
    name = posixpath.basename(path)
    checked = columns is not None
    for number, values in read_table_rows(filesystem, path, columns):
        key = f"{name}:{number}"
        if not checked and isinstance(values, dict) and path.endswith((".csv", ".tsv")):
            _check_columns(path, values, kind, False)
            checked = True
        if isinstance(values, str):
            yield _row(source, key, {}, root, "") | {"reason": values}
        elif embedded:
            # Zeros keep the file's order when rows are sorted: row groups are read in turn.
            key = f"{name}:{number:09d}"
            yield _row(source, key, values, root, "", number - 1) | {"path": path}
        else:
            yield _row(source, key, values, root, folder)


def list_rows(source: SourceConfig, uri: str, kind: Kind) -> Iterator[dict[str, Any]]:
    """Rows of an image or pair corpus by `ROW_SCHEMA`, in order; unreadable ones have a `reason`.

    A folder holds pictures (kind images), or tables beside their pictures; a folder of pairs
    without a table may hold `name.jpg` beside `name.txt`.
    """
    field_name = f"{kind}.source"
    files = list_files(uri, field_name, kind)
    filesystem, root = open_uri(uri)
    tables = [f.path for f in files if f.path.endswith(_TABLES)]
    pictures = [f.path for f in files if f.path.lower().endswith(EXTENSIONS)]
    if tables:
        for table in tables:
            yield from _table_rows(source.name, uri, table, kind)
        return
    if not pictures:
        raise UserError(f"{field_name} {uri}: no picture and no table in it; {_HINT[kind]}")
    beside = {f.path for f in files if f.path.endswith(".txt")}
    for path in pictures:
        key = posixpath.relpath(path, root) if path != root else posixpath.basename(path)
        values: dict[str, Any] = {"image": path, "group": key}
        text_path = posixpath.splitext(path)[0] + ".txt"
        if kind == "pairs" and text_path in beside:
            with filesystem.open_input_stream(text_path) as file:
                values["caption"] = file.read().decode("utf-8", errors="replace")
        yield _row(source.name, key, values, uri, "")


def list_text_files(uri: str) -> list[str]:
    """Paths of a corpus's text files in its file system. Raises UserError without any."""
    files = [f.path for f in list_files(uri, "text.source", "text") if f.path.endswith(_TEXTS)]
    if not files:
        raise UserError(f"text.source {uri}: no .txt, .jsonl or .parquet in it; {_HINT['text']}")
    return files
