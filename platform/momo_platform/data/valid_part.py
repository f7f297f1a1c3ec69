"""The rows that training is measured on: those of the split `valid`, at most so many, evenly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from momo_platform.data.artifacts import SHARDS, VALID, PreparedRows, RowIndex, write_index
from momo_platform.data.shard_reader import ShardReader, read_columns
from momo_platform.data.shards import write_rows
from momo_platform.stages.storage.place import Place


def valid_rows(
    prepared: PreparedRows,
    columns: Sequence[str],
    weights: Mapping[str, float],
    most: int,
    seed: int,
) -> pa.Table:
    """At most `most` rows of split `valid`, with `columns`, in an order drawn from the seed.

    They lie evenly among all such rows of the sources that training takes (`weights` above 0). Each
    comes once, whatever its source's weight.
    """
    index = prepared.index()
    found: list[np.ndarray] = []  # [rows, 2]: file and place in it
    for number, file in enumerate(index.held_out):
        begin = 0
        for table in read_columns(prepared.place, file, ["split", "source"]):
            rows = zip(table["split"].to_pylist(), table["source"].to_pylist(), strict=True)
            mine = [split == "valid" and weights.get(source, 1.0) > 0 for split, source in rows]
            places = begin + np.flatnonzero(mine)
            found.append(np.stack([np.full(len(places), number), places], axis=1))
            begin += len(table)
    chosen = np.concatenate(found) if found else np.zeros((0, 2), dtype=np.int64)
    if len(chosen) > most:
        chosen = chosen[np.arange(most) * len(chosen) // most]
    if not len(chosen):
        return pa.table({name: [] for name in columns})
    reader = ShardReader(prepared.place, index.held_out, index.row_group)
    groups = chosen // [1, index.row_group]  # in order, as the rows are
    ends = np.flatnonzero((np.diff(groups, axis=0) != 0).any(axis=1)) + 1
    batches = []
    for here in np.split(np.arange(len(chosen)), ends):
        file, group = groups[here[0]].tolist()
        batch = reader.batch(file, group, columns)
        batches.append(batch.take(pa.array(chosen[here, 1] % index.row_group)))
    # Row by row: `take` would join the columns first, which hold at most 2 GB in one piece.
    rows = [batch.slice(row, 1) for batch in batches for row in range(len(batch))]
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(chosen))
    return pa.Table.from_batches([rows[row] for row in order]).select(list(columns))


def write_valid(output: Place, table: pa.Table, row_group: int) -> dict[str, int]:
    """The valid part of a mixture, where there are rows; returns its metrics."""
    if len(table):
        place = output / VALID
        shard = write_rows(place, f"{SHARDS}/valid-00000.parquet", [table], row_group)
        write_index(place, RowIndex(row_group, tuple(table.column_names), (shard,)))
    return {"valid_rows": len(table)}
