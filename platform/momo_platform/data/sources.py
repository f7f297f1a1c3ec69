"""Corpora as people have them: folders, Parquet, JSONL, CSV, plain text; local or by URI.

`list_rows` names what there is without reading pictures; bytes are read later, in Ray tasks.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa
import pyarrow.fs as pafs

from momo_platform.data.images import EXTENSIONS
from momo_platform.stages.errors import UserError

Kind = Literal["images", "text", "pairs"]
IMAGE_NAMES = ("image", "path", "file", "file_name", "filename", "image_path", "img", "jpg", "png")
TEXT_NAMES = ("text", "content", "document", "sentence")
CAPTION_NAMES = ("caption", "captions", "text", "sentence", "title", "alt")
_TABLES = (".parquet", ".jsonl", ".csv", ".tsv")
_TEXTS = (".txt", ".jsonl", ".parquet")
_HINT = {
    "images": "give a folder of pictures, a Parquet file, or JSONL/CSV with picture paths",
    "text": "give a .txt file (one document a line), a folder of them, JSONL or Parquet",
    "pairs": "give Parquet, JSONL or CSV with a picture and a caption a row, or a folder of them",
}
ROW_SCHEMA = pa.schema(
    {
        "source": pa.string(),
        "key": pa.string(),
        "path": pa.string(),
        "bytes": pa.binary(),
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


def open_uri(uri: str) -> tuple[pafs.FileSystem, str]:
    """The file system and path of a local path or URI."""
    if "://" in uri:
        return pafs.FileSystem.from_uri(uri)
    from pathlib import Path

    return pafs.LocalFileSystem(), str(Path(uri).expanduser().absolute())


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
    files = [f for f in found if f.type == pafs.FileType.File and f.size]
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


def _row(source: str, key: str, values: dict[str, Any], folder: str) -> dict[str, Any]:
    image, captions = _first(values, IMAGE_NAMES), _first(values, CAPTION_NAMES)
    if isinstance(image, dict):  # the layout of Hugging Face `datasets`
        image = image.get("bytes") or image.get("path")
    path = data = None
    if isinstance(image, bytes):
        data = image
    elif isinstance(image, str):
        absolute = image.startswith("/") or "://" in image
        path = image if absolute else posixpath.join(folder, image)
    texts = captions if isinstance(captions, list) else [captions]
    return {
        "source": source,
        "key": key,
        "path": path,
        "bytes": data,
        "captions": [t if isinstance(t, str) else "" for t in texts],
        "group": str(values.get("group") or key),
        "split": str(values.get("split") or ""),
        "label": str(values.get("label") or ""),
    }


def read_table_rows(filesystem: pafs.FileSystem, path: str) -> Iterator[tuple[int, Any]]:
    """(row number from 1, dictionary) of a JSONL, CSV, TSV or Parquet file.

    A row that can't be read comes as (number, reason text).
    """
    if path.endswith(".parquet"):
        import pyarrow.parquet as pq

        number = 0
        try:
            with filesystem.open_input_file(path) as file:
                for batch in pq.ParquetFile(file).iter_batches(1024):
                    for row in batch.to_pylist():
                        number += 1
                        yield number, row
        except pa.ArrowInvalid as error:
            raise UserError(f"{path} is not readable Parquet: {error}; replace it") from error
        return
    with filesystem.open_input_stream(path) as file:
        raw = file.read()
    if path.endswith(".jsonl"):
        for number, line in enumerate(raw.splitlines(), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8"))
                yield number, row if isinstance(row, dict) else "the line is no JSON object"
            except UnicodeDecodeError:
                yield number, "the line is not UTF-8"
            except json.JSONDecodeError as error:
                yield number, f"the line is no JSON: {error}"
        return
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 at byte {error.start}: save it as UTF-8") from error
    delimiter = "\t" if path.endswith(".tsv") else ","
    yield from enumerate(csv.DictReader(io.StringIO(text), delimiter=delimiter), start=2)


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
            for number, values in read_table_rows(filesystem, table):
                key = f"{posixpath.basename(table)}:{number}"
                if isinstance(values, str):
                    yield _row(source.name, key, {}, "") | {"reason": values}
                else:
                    yield _row(source.name, key, values, posixpath.dirname(table))
        return
    if not pictures:
        raise UserError(f"{field_name} {uri}: no picture and no table in it; {_HINT[kind]}")
    beside = {f.path for f in files if f.path.endswith(".txt")}
    for path in pictures:
        key = posixpath.relpath(path, root) if path != root else posixpath.basename(path)
        values: dict[str, Any] = {"image": path}
        text_path = posixpath.splitext(path)[0] + ".txt"
        if kind == "pairs" and text_path in beside:
            with filesystem.open_input_stream(text_path) as file:
                values["caption"] = file.read().decode("utf-8", errors="replace")
        yield _row(source.name, key, values, "")


def list_text_files(uri: str) -> list[str]:
    """The text files of a corpus. Raises UserError when there are none."""
    files = [f.path for f in list_files(uri, "text.source", "text") if f.path.endswith(_TEXTS)]
    if not files:
        raise UserError(f"text.source {uri}: no .txt, .jsonl or .parquet in it; {_HINT['text']}")
    return files
