"""Checksums of a corpus's own files, so that a model leads back to what it was trained on."""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import itertools
import posixpath
import tempfile
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from momo_platform.data.config import Kind, SourceConfig
from momo_platform.data.filesystems import (
    READ_BYTES,
    filesystem_of,
    is_hidden,
    list_files,
    open_place,
)
from momo_platform.data.readers import hashed_endings, reader_of

FILES = "sources.parquet"
DIGEST_SCHEMA = pa.schema(
    {"source": pa.string(), "path": pa.string(), "size": pa.int64(), "sha256": pa.string()}
)
_ORDER = ("source", "path", "sha256")
_place = itemgetter(*_ORDER)
_RUN, _RUN_BLOCK, _BLOCK = 2**17, 2**10, 2**16  # rows
_PLACE_SCHEMA = pa.schema(
    {n: pa.string() for n in ("source", "root", "path", "shown", "sha256")} | {"size": pa.int64()}
)


def shown_path(root: str, path: str) -> str:
    """`path` relative to the corpus, so that a moved corpus has the same rows; as it is outside."""
    base = open_place(root)[1]
    for folder in (base, posixpath.dirname(base)):
        if path != folder and path.startswith(folder.rstrip("/") + "/"):
            return posixpath.relpath(path, folder)
    return path


def blocks_to_hash(source: SourceConfig, uri: str, kind: Kind) -> list[pa.Table]:
    """A block for each table and text file of a source; pictures are hashed when they are read."""
    whole = reader_of(uri)
    folder = whole.folder(uri) if whole else uri
    if whole and folder is None:
        rows = whole.checksums(uri)
    else:
        folder = folder or uri
        root = open_place(folder)[1]
        rows = [
            {"root": folder, "path": file.path, "size": file.size}
            for file in list_files(folder, kind.option, kind.hint)
            if file.path.lower().endswith(hashed_endings()) and not is_hidden(file.path, root)
        ]
    return [
        pa.Table.from_pylist([{"source": source.name, **row}], schema=_PLACE_SCHEMA) for row in rows
    ]


def hash_files(block: pa.Table) -> pa.Table:
    """In a Ray task: files of a block → rows by DIGEST_SCHEMA."""
    rows = []
    for place in block.to_pylist():
        size, checksum = place["size"], place["sha256"]
        try:
            if not checksum:
                size, checksum = _hashed(place["root"], place["path"])
        except PermissionError:
            continue  # nothing of it is in the corpus: reading it gave a reason
        shown = place["shown"] or shown_path(place["root"], place["path"])
        rows.append({"source": place["source"], "path": shown, "size": size, "sha256": checksum})
    return pa.Table.from_pylist(rows, schema=DIGEST_SCHEMA)


def _hashed(root: str, path: str) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with filesystem_of(root).open_input_stream(path) as file:
        while chunk := file.read(READ_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def files_in_order(tables: Iterable[pa.Table]) -> pa.Table:
    """One table, sorted, each file once."""
    table = pa.concat_tables([DIGEST_SCHEMA.empty_table(), *tables])
    table = table.sort_by([(name, "ascending") for name in _ORDER]).combine_chunks()
    before, after = table.slice(0, max(0, len(table) - 1)), table.slice(1)
    other = np.zeros(len(after), bool)
    for name in _ORDER:
        other |= before[name].to_numpy() != after[name].to_numpy()
    return table.filter(pa.array([True, *other.tolist()][: len(table)], pa.bool_()))


def write_listing(tables: Iterable[pa.Table], path: Path) -> dict[str, Any]:
    """Tables by DIGEST_SCHEMA, in any order → one Parquet file, sorted, each file once.

    Returns `count` and `bytes` of the files, and `sha256` over the listing's rows, fields joined by
    a zero byte, a line feed after each.
    Memory: the largest table and 131,072 rows, and a thousand of each 131,072 that there are.
    """
    digest, count, size = hashlib.sha256(), 0, 0
    with pq.ParquetWriter(path, DIGEST_SCHEMA) as writer:
        for rows in _merged(tables, path.parent):
            writer.write_table(pa.Table.from_pylist(rows, schema=DIGEST_SCHEMA))
            count += len(rows)
            for row in rows:
                size += row["size"]
                digest.update("\0".join(str(row[n]) for n in DIGEST_SCHEMA.names).encode() + b"\n")
    return {"count": count, "bytes": size, "sha256": digest.hexdigest()}


def _merged(tables: Iterable[pa.Table], scratch: Path) -> Iterator[list[dict[str, Any]]]:
    """Blocks of rows, sorted, each file once; sorted runs lie in nameless files in `scratch`."""
    with contextlib.ExitStack() as stack:
        runs: list[Iterator[dict[str, Any]]] = []
        held, rows = [], 0

        def end_run() -> None:
            file = stack.enter_context(tempfile.TemporaryFile(dir=scratch))
            with pa.ipc.new_file(pa.PythonFile(file, "w"), DIGEST_SCHEMA) as run:
                run.write_table(files_in_order(held), max_chunksize=_RUN_BLOCK)
            runs.append(_rows_of(pa.ipc.open_file(pa.PythonFile(file, "r"))))

        for table in tables:
            held.append(table)
            rows += len(table)
            if rows >= _RUN:
                end_run()
                held, rows = [], 0
        runs.append(
            row
            for batch in files_in_order(held).to_batches(_RUN_BLOCK)
            for row in batch.to_pylist()
        )
        merged = heapq.merge(*runs, key=_place)
        once = (next(group) for _, group in itertools.groupby(merged, _place))
        while block := [*itertools.islice(once, _BLOCK)]:
            yield block


def _rows_of(run: pa.RecordBatchFileReader) -> Iterator[dict[str, Any]]:
    for number in range(run.num_record_batches):
        yield from run.get_batch(number).to_pylist()
