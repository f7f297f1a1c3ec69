"""Immutable Parquet shards with an index: written once, read by row."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

INDEX = "index.json"
ROW_GROUP = 256


def write_shards(
    tables: Iterable[pa.Table], folder: Path, *, row_group: int = ROW_GROUP, rows_per_shard: int
) -> int:
    """Write rows in order as `shard-00000.parquet` …; returns their number.

    Holds one shard's rows in memory. Every row group but the last has exactly `row_group` rows,
    so a row's place follows from its number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    per_shard = max(row_group, rows_per_shard // row_group * row_group)
    shards: list[dict[str, object]] = []
    pending: list[pa.Table] = []
    waiting = 0
    schema: pa.Schema | None = None

    def flush(table: pa.Table) -> None:
        name = f"shard-{len(shards):05d}.parquet"
        pq.write_table(table, folder / name, row_group_size=row_group, compression="zstd")
        shards.append({"file": name, "rows": len(table)})

    for table in tables:
        schema = table.schema
        pending.append(table)
        waiting += len(table)
        while waiting >= per_shard:
            joined = pa.concat_tables(pending)
            flush(joined.slice(0, per_shard))
            pending = [joined.slice(per_shard)]
            waiting = len(pending[0])
    if waiting:
        flush(pa.concat_tables(pending))
    total = sum(int(str(s["rows"])) for s in shards)
    index = {
        "rows": total,
        "row_group": row_group,
        "rows_per_shard": per_shard,
        "shards": shards,
        "columns": schema.names if schema else [],
    }
    (folder / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")
    return total


class ShardDataset:
    """Rows of a folder of shards by number, from any thread; keeps `cached_groups` row groups in
    memory."""

    def __init__(self, folder: Path, cached_groups: int = 64) -> None:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        self._folder = folder
        self._rows, self.row_group = int(index["rows"]), int(index["row_group"])
        self._groups_per_shard = int(index["rows_per_shard"]) // self.row_group
        self._shards = [s["file"] for s in index["shards"]]
        self.columns: tuple[str, ...] = tuple(index["columns"])
        self._cache: OrderedDict[tuple[int, tuple[str, ...]], pa.Table] = OrderedDict()
        self._cached_groups = cached_groups
        self._lock = threading.Lock()  # a loader's threads share the cache

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_cache": OrderedDict(), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._rows

    def stored_bytes(self) -> int:
        """Of all shards, as they lie on the disk."""
        return sum((self._folder / name).stat().st_size for name in self._shards)

    def _group(self, group: int, columns: tuple[str, ...]) -> pa.Table:
        key = group, columns
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        shard, inside = divmod(group, self._groups_per_shard)
        with pq.ParquetFile(self._folder / self._shards[shard]) as file:
            table = file.read_row_group(inside, columns=list(columns), use_threads=False)
        with self._lock:
            self._cache[key] = table
            while len(self._cache) > self._cached_groups:
                self._cache.popitem(last=False)
        return table

    def read(self, rows: np.ndarray, columns: Sequence[str] | None = None) -> pa.Table:
        """The given rows [B] in their order; of their columns all or, without touching the others,
        `columns`."""
        wanted = self.columns if columns is None else tuple(columns)
        groups = rows // self.row_group
        tables, places, base = [], np.empty(len(rows), dtype=np.int64), 0
        for group in np.unique(groups):
            table = self._group(int(group), wanted)
            here = groups == group
            places[here] = base + rows[here] - group * self.row_group
            tables.append(table)
            base += len(table)
        return pa.concat_tables(tables).take(pa.array(places))
