"""Files of rows: Parquet whose row groups can each be fetched and read by themselves.

A corpus of a hundred million rows has footers of gigabytes, and a reader in random order would need
nearly all of them for its first batch. So behind each row group's pages stands a footer of its own:
from four bytes before the pages ("PAR1") to the end of that footer the bytes are a whole Parquet
file of one row group. Other readers know nothing of it and see an ordinary Parquet file. Behind the
last row group stands where they end, at `ShardFile.ends_at`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from momo_platform.data.artifacts import ShardFile
from momo_platform.stages.storage.place import Place

PICTURE_GROUP, TOKEN_GROUP = 64, 256
"""Rows of a row group: of pictures and pairs, and of tokens."""
MAGIC = b"PAR1"
ENDS = np.dtype("<u8")
_OPTIONS = {
    "compression": "zstd",
    "write_page_checksum": True,
    "write_statistics": False,
    "use_dictionary": False,
}


def write_rows(
    place: Place, file: str, tables: Iterable[pa.Table], row_group: int, source: str = ""
) -> ShardFile:
    """Write rows in order as the Parquet file `file`; equal rows give equal bytes.

    Holds as many of them as `tables` hands over at once. Every row group but the last has exactly
    `row_group` rows. Raises ValueError where there are no rows. A task tells the stage of it by
    `context.made(shard.file, size=shard.size, sha256=shard.sha256)`.
    """
    with place.writing(file) as path:
        rows, ends_at = _write(path, tables, row_group)
        if not rows:
            raise ValueError(f"{place}/{file}: no rows to write")
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        size = path.stat().st_size
    return ShardFile(file, rows, size, source, sha256, ends_at)


def _write(path: Path, tables: Iterable[pa.Table], row_group: int) -> tuple[int, int]:
    """Rows, and where the list of ends stands."""
    rows, ends, writer, names_types = 0, [], None, False
    with pa.OSFile(str(path), "wb") as sink:
        for group in _groups(tables, row_group):
            if writer is None:
                writer = pq.ParquetWriter(sink, group.schema, **_OPTIONS)
                plain = pq.read_schema(pa.BufferReader(_alone(group, names_types=False)))
                names_types = not plain.equals(group.schema)
            begin = sink.tell()
            writer.write_table(group, row_group_size=row_group)
            pages = sink.tell() - max(begin, len(MAGIC))
            alone = _alone(group, names_types)
            sink.write(alone.slice(len(MAGIC) + pages))
            if sink.tell() - max(begin, len(MAGIC)) != len(alone) - len(MAGIC):
                raise ValueError(f"{path}: a row group has other pages alone than in the file")
            ends.append(sink.tell())
            rows += len(group)
        ends_at = sink.tell()
        if writer is not None:
            sink.write(np.array(ends, ENDS).tobytes())
            writer.close()
    return rows, ends_at


def _alone(group: pa.Table, names_types: bool) -> pa.Buffer:
    """A row group as a file of its own. `names_types`: with types of Arrow that Parquet does not
    know (lists of fixed size …)."""
    sink = pa.BufferOutputStream()
    pq.write_table(group, sink, row_group_size=len(group), store_schema=names_types, **_OPTIONS)
    return sink.getvalue()


def _groups(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Tables of `rows` rows, the last perhaps of fewer, each of one chunk."""
    pending: list[pa.Table] = []
    waiting = 0
    for table in tables:
        pending.append(table.replace_schema_metadata(None))
        waiting += len(table)
        if waiting < rows:
            continue
        joined, start = pa.concat_tables(pending), 0
        while waiting - start >= rows:
            yield joined.slice(start, rows).combine_chunks()
            start += rows
        pending, waiting = [joined.slice(start)], waiting - start
    if waiting:
        yield pa.concat_tables(pending).combine_chunks()
