"""The rows that training is measured on: those of the split `valid`, at most so many, evenly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_BATCH = 1024


def valid_rows(
    path: Path,
    columns: Sequence[str],
    weights: Mapping[str, float],
    most: int,
    seed: int,
    keep: Callable[[pa.Table], pa.Table] = lambda table: table,
) -> pa.Table:
    """At most `most` rows of split `valid` of `path`, prepared rows, with `columns` in an order
    drawn from the seed.

    They lie evenly among all such rows of the sources that training takes (`weights` above 0). Each
    comes once, whatever its source's weight. `keep` leaves some of them.
    """
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if "split" not in names:
            return file.schema_arrow.empty_table().select(list(columns))
        place = 0
        found: list[np.ndarray] = []
        for batch in file.iter_batches(_BATCH, columns=["split", "source"]):
            valid = np.array(batch["split"].to_pylist()) == "valid"
            wanted = np.array([weights.get(s, 1.0) > 0 for s in batch["source"].to_pylist()])
            found.append(place + np.flatnonzero(valid & wanted))
            place += batch.num_rows
        rows = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
        if len(rows) > most:
            rows = rows[np.arange(most) * len(rows) // most]
        tables = [file.schema_arrow.empty_table()]
        place = 0
        for batch in file.iter_batches(_BATCH):
            here = rows[(rows >= place) & (rows < place + batch.num_rows)] - place
            if len(here):
                tables.append(pa.table(batch).take(pa.array(here)))
            place += batch.num_rows
    chosen = keep(pa.concat_tables(tables)).select(list(columns))
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(chosen))
    return chosen.take(pa.array(order))
