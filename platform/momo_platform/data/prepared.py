"""Prepared rows, read one after another: the columns that are asked for, by ranges of the files.

Rows come in the order in which they lie, held-out ones first. Training rows lie in the order of
their contents' digests, so that the first ones of a source are a random sample of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from momo_platform.stages.storage.patience import patiently

if TYPE_CHECKING:
    from momo_platform.data.artifacts import Rows, ShardFile
    from momo_platform.stages.storage.place import Place


def read_rows(
    rows: Rows,
    columns: Sequence[str],
    splits: Sequence[str] = ("test",),
    limit: int | None = None,
    filled: str = "",
    source: str = "",
) -> pa.Table:
    """What `iterate_rows` gives, as one table; without any row, an empty one."""
    found = list(iterate_rows(rows, columns, splits, limit, filled, source))
    if found:
        return pa.concat_tables(found)
    return pa.table({name: pa.nulls(0) for name in columns})


def iterate_rows(
    rows: Rows,
    columns: Sequence[str],
    splits: Sequence[str] = ("test",),
    limit: int | None = None,
    filled: str = "",
    source: str = "",
) -> Iterator[pa.Table]:
    """`columns` of the rows of `splits`, the first `limit` of them: a table a row group that has
    some. `filled`: only rows where this column of strings is not empty; `source`: of training rows
    those of this source alone."""
    index = rows.index()
    files = list(index.held_out) if {"valid", "test"} & set(splits) else []
    if "train" in splits:
        files += [shard for shard in index.shards if source in ("", shard.source)]
    yield from _of_files(rows.place, files, columns, splits, limit, filled)


def proportional(rows: Rows, limit: int) -> dict[str, int]:
    """Source → how many of its training rows `limit` of all of them take: its part, rounded up."""
    index, counts = rows.index(), dict[str, int]()
    for shard in index.shards:
        counts[shard.source] = counts.get(shard.source, 0) + shard.rows
    most = min(limit, index.rows)
    return {name: -(-most * count // max(1, index.rows)) for name, count in counts.items()}


def _of_files(
    place: Place,
    files: Sequence[ShardFile],
    columns: Sequence[str],
    splits: Sequence[str],
    limit: int | None,
    filled: str,
) -> Iterator[pa.Table]:
    read = list(dict.fromkeys((*columns, "split", *([filled] if filled else []))))
    chosen = pc.field("split").isin(list(splits))
    if filled:
        chosen = chosen & (pc.field(filled) != "")
    left = limit
    for one in files:
        if left is not None and left <= 0:
            return
        with place.open(one.file) as raw:
            file = pq.ParquetFile(raw, pre_buffer=True, page_checksum_verification=True)
            for group in range(file.num_row_groups):
                if filled and _is_empty(file, group, filled):
                    continue
                table = patiently(lambda f=file, g=group: f.read_row_group(g, read))
                table = table.filter(chosen).select(list(columns)).slice(0, left)
                if len(table):
                    yield table
                left = None if left is None else left - len(table)
                if left is not None and left <= 0:
                    return


def _is_empty(file: pq.ParquetFile, group: int, column: str) -> bool:
    """Whether the footer knows that no row of the group has something in the column."""
    told = file.metadata.row_group(group)
    chunks = (told.column(number) for number in range(told.num_columns))
    statistics = next(chunk for chunk in chunks if chunk.path_in_schema == column).statistics
    return statistics is not None and statistics.has_min_max and statistics.max == ""
