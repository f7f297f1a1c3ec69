"""Prepared rows as a preparation leaves them, and artifacts of any folder, for tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from momo_platform.data.artifacts import (
    LEFT_OUT,
    MixedSource,
    MixtureIndex,
    PreparedRows,
    RowIndex,
    Rows,
    write_index,
    write_mixture,
)
from momo_platform.data.prepared import read_rows
from momo_platform.data.shards import write_rows
from momo_platform.stages.storage.place import Place


def prepared(folder: Path, columns: Mapping[str, Any], row_group: int = 64) -> Path:
    """Rows in the given order. Columns that are not given: `source` "own", `key` the row's number,
    `split` "train"."""
    table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
    count = len(table)
    others = {"source": ["own"] * count, "key": [f"{i:06d}" for i in range(count)]}
    for name, values in (others | {"split": ["train"] * count}).items():
        if name not in table.column_names:
            table = table.append_column(name, pa.array(values, pa.string()))
    place, shards, held = Place(str(folder)), [], []
    training = pc.field("split") == "train"
    for source in dict.fromkeys(table["source"].to_pylist()):
        rows = table.filter(training & (pc.field("source") == source))
        if len(rows):
            name = f"shards/{source}-00000.parquet"
            shards.append(write_rows(place, name, [rows], row_group, source))
    if len(rows := table.filter(~training)):
        held.append(write_rows(place, "held-out/00000.parquet", [rows], row_group))
    names = tuple(table.column_names)
    write_index(place, RowIndex(row_group, names, tuple(shards), tuple(held)))
    return folder


def mixed(folder: Path, rows: Path, columns: Sequence[str]) -> Path:
    """A mixture of all rows, each of them once."""
    counts: Counter[str] = Counter()
    for shard in Rows(rows).index().shards:
        counts[shard.source] += shard.rows
    sources = tuple(MixedSource(name, 1.0, count) for name, count in counts.items())
    write_mixture(Place.of(folder), MixtureIndex(tuple(columns), sources))
    return folder


def artifact(folder: Path, metrics: Mapping[str, Any] | None = None) -> Any:
    """What stages read of an artifact."""
    place = Place(str(folder))
    found = {"path": folder, "place": place, "read": place.read, "metrics": dict(metrics or {})}
    return SimpleNamespace(**found)


def rows_of(storage: Path, stage: str) -> list[dict[str, Any]]:
    """All rows that a preparation left in a storage, those for training in the order of their
    numbers and last."""
    rows = PreparedRows(next(storage.glob(f"{stage}/*/attempt-*/index.json")).parent)
    return read_rows(rows, rows.index().columns, ("test", "valid", "train")).to_pylist()


def rows_trained_on(storage: Path, corpus: str) -> list[dict[str, Any]]:
    """What is read of a corpus whose mixture copies nothing."""
    rows = [row for row in rows_of(storage, f"prepare-{corpus}") if row["split"] == "train"]
    mixed = next(storage.glob(f"mix-{corpus}/*/attempt-*"))
    file = mixed / LEFT_OUT
    left = {*pq.read_table(file)["row"].to_pylist()} if file.exists() else set()
    return [row for number, row in enumerate(rows) if number not in left]
