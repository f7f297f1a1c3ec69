"""Corpora as people have them: folders, tables, text, tars, data sets; local or by URI.

`list_rows` names what there is without reading pictures; bytes are read later, in Ray tasks, by
`tables.read_picture` and its like. A listing takes about 1 kB of memory a row.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from momo_platform.data.class_folders import splits_and_labels
from momo_platform.data.columns import CAPTION_NAMES, IMAGE_NAMES
from momo_platform.data.config import Kind, SourceConfig
from momo_platform.data.images import EXTENSIONS
from momo_platform.data.listing import make_row, named
from momo_platform.data.look import check_columns
from momo_platform.data.readers.hub import HubName, identify_remote, is_hub, list_hub
from momo_platform.data.readers.tables import (
    TABLES,
    embedded_column,
    filesystem_of,
    open_uri,
    read_table_rows,
)
from momo_platform.data.readers.tar import is_tar, list_tar
from momo_platform.data.text import LONGEST_CAPTION, BadText, decode_caption
from momo_platform.stages.errors import UserError

_TEXTS = (".txt", *TABLES)


def list_files(uri: str, field_name: str, hint: str) -> list[pafs.FileInfo]:
    """All files at a path or below a folder, sorted. Raises UserError, with a `hint` what to give,
    when there are none."""
    source = named(field_name, uri)
    try:
        filesystem, path = open_uri(uri)
        info = filesystem.get_file_info(path)
        if info.type == pafs.FileType.NotFound:
            raise UserError(f"{source}: no such file or folder; {hint}")
        if info.type == pafs.FileType.File:
            return [info]
        found = filesystem.get_file_info(pafs.FileSelector(path, recursive=True))
        found.sort(key=lambda f: f.path)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{source}: {error}; {hint}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{source}: a file's name is not UTF-8 ({error.object!r:.200}); rename it"
        ) from error
    files = [f for f in found if f.type == pafs.FileType.File]
    if not files:
        raise UserError(f"{source}: the folder is empty; {hint}")
    return files


def identify(uri: str, field_name: str, kind: Kind) -> str:
    """16 hex digits over relative names, sizes and times of a corpus.

    Raises UserError for one that is not there or of which nothing can be used, as far as a look at
    its beginning tells (look.py).
    """
    digest, hub_set = hashlib.sha256(), is_hub(uri)
    if hub_set:
        name = HubName.of(uri)
        if name.folder is None:
            return identify_remote(uri)
        digest.update(f"{name.config}@{name.split}\n".encode())
        uri = name.folder
    files = list_files(uri, field_name, kind.hint)
    # Tars are taken as they are, and so is what lies elsewhere: it is slow to read.
    taken = hub_set or "://" in uri or any(is_tar(file.path) for file in files)
    if kind.look is not None and not taken:
        kind.look(uri, files, field_name, kind)
    _, root = open_uri(uri)
    for file in files:
        name = posixpath.relpath(file.path, root)
        digest.update(f"{name}\0{file.size}\0{file.mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _table_rows(
    source: str, root: str, path: str, kind: Kind, more: Sequence[str]
) -> Iterator[dict[str, Any]]:
    filesystem, folder = filesystem_of(root), posixpath.dirname(path)
    what = f"{kind.option} {path}"
    columns: set[str] | None = None
    embedded = None
    if path.endswith(".parquet"):
        try:
            schema = pq.read_schema(path, filesystem=filesystem)
            embedded = embedded_column(schema)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{path} is not readable Parquet: {error}; replace it") from error
        check_columns(what, schema.names, kind, embedded=embedded is not None)
        columns = {*CAPTION_NAMES, "group", "split", "label", *more}
        columns |= set() if embedded else set(IMAGE_NAMES)
    name = posixpath.basename(path)
    checked = columns is not None
    for number, values in read_table_rows(filesystem, path, columns):
        key = f"{name}:{number}"
        if not checked and isinstance(values, dict) and path.endswith((".csv", ".tsv")):
            check_columns(what, values, kind)
            checked = True
        if isinstance(values, str):
            yield make_row(source, key, {}, root, "") | {"reason": values}
            continue
        if embedded:
            # Zeros keep the file's order when rows are sorted: row groups are read in turn.
            key = f"{name}:{number:09d}"
            row = make_row(source, key, values, root, "", number - 1) | {"path": path}
        else:
            row = make_row(source, key, values, root, folder)
        yield row | {"more": {n: values.get(n) for n in more}} if more else row


def list_rows(
    source: SourceConfig, uri: str, kind: Kind, more: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Rows of an image or pair corpus by `ROW_SCHEMA`, in order; unreadable ones have a `reason`.

    A folder holds WebDataset shards, or tables beside their pictures, or pictures alone; of pairs
    `name.jpg` beside `name.txt`. The first of these that is there is read, the others are not.
    Pictures alone have a label, and perhaps a split, where they lie in a folder a class. `more`
    names columns of tables whose values a row has as `more`.
    """
    if is_hub(uri):
        yield from list_hub(source.name, uri, kind)
        return
    files = list_files(uri, kind.option, kind.hint)
    filesystem, root = open_uri(uri)
    shards = [f.path for f in files if is_tar(f.path)]
    for shard in shards:
        name = posixpath.relpath(shard, root) if shard != root else posixpath.basename(shard)
        yield from list_tar(source.name, uri, shard, name, kind)
    if shards:
        return
    tables = [f.path for f in files if f.path.endswith(TABLES)]
    pictures = [f.path for f in files if f.path.lower().endswith(EXTENSIONS)]
    if tables:
        for table in tables:
            yield from _table_rows(source.name, uri, table, kind, more)
        return
    if not pictures:
        raise UserError(f"{kind.option} {uri}: no picture and no table in it; {kind.hint}")
    beside = {f.path for f in files if f.path.endswith(".txt")}
    keys = [posixpath.relpath(p, root) if p != root else posixpath.basename(p) for p in pictures]
    for path, key, (split, label) in zip(pictures, keys, splits_and_labels(keys), strict=True):
        values: dict[str, Any] = {"image": path, "group": key, "split": split, "label": label}
        text_path = posixpath.splitext(path)[0] + ".txt"
        reason = None
        if kind.needs("caption") and text_path in beside:
            try:
                with filesystem.open_input_stream(text_path) as file:
                    values["caption"] = decode_caption(file.read(4 * LONGEST_CAPTION + 1))
            except BadText as error:
                reason = str(error)
        row = make_row(source.name, key, values, uri)
        yield row | {"reason": reason or row["reason"]}


def list_text_files(uri: str, kind: Kind) -> list[str]:
    """Paths of a corpus's text files in its file system. Raises UserError without any."""
    found = [f.path for f in list_files(uri, kind.option, kind.hint)]
    files = [p for p in found if is_tar(p)] or [p for p in found if p.endswith(_TEXTS)]
    if not files:
        raise UserError(
            f"{kind.option} {uri}: no .txt, .jsonl, .parquet or .tar in it; {kind.hint}"
        )
    return files
