"""Prepared rows, read one after another: the columns that are asked for, by ranges of the files.

Rows come in the order in which they lie, held-out ones first. Training rows lie in the order of
their contents' digests, so that the first ones of a source are a random sample of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from momo_platform.data.shard_reader import read_columns

if TYPE_CHECKING:
    from momo_platform.data.artifacts import Rows

_GROUPS = 16
"""Row groups that are read at a time; their ranges are fetched side by side."""


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
    """`columns` of the rows of `splits`, the first `limit` of them: a table for a few row groups
    that have some. `filled`: only rows where this column of strings is not empty; `source`: of
    training rows those of this source alone. Raises UserError where a file is gone or damaged."""
    index, left = rows.index(), limit
    files = list(index.held_out) if {"valid", "test"} & set(splits) else []
    if "train" in splits:
        files += [shard for shard in index.shards if source in ("", shard.source)]
    chosen = pc.field("split").isin(list(splits))
    if filled:
        chosen = chosen & (pc.field(filled) != "")
    names = [name for name in dict.fromkeys([*columns, "split", filled]) if name]
    for file in files:
        if left == 0:
            return
        most = _GROUPS if left is None else min(_GROUPS, -(-left // index.row_group))
        for table in read_columns(rows.place, file, names, filled, most):
            found = table.filter(chosen).select(list(columns)).slice(0, left)
            if len(found):
                yield found
            if left is not None and (left := left - len(found)) <= 0:
                return


def proportional(rows: Rows, limit: int) -> dict[str, int]:
    """Source → how many of its training rows `limit` of all of them take: its part, rounded up."""
    index, counts = rows.index(), dict[str, int]()
    for shard in index.shards:
        counts[shard.source] = counts.get(shard.source, 0) + shard.rows
    most = min(limit, index.rows)
    return {name: -(-most * count // max(1, index.rows)) for name, count in counts.items()}
