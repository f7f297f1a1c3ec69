"""Rows of an index by number: what is needed is fetched ahead, held for a while, and no more."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from momo_platform.data.artifacts import INDEX, LEFT_OUT, Mixture, PreparedRows, Rows
from momo_platform.data.node_cache import NodeCache
from momo_platform.data.order import WINDOW
from momo_platform.data.row_groups import SourceRows
from momo_platform.data.shard_reader import ShardReader
from momo_platform.stages.errors import UserError
from momo_platform.stages.storage.place import Place

_LOCAL_THREADS, _BUCKET_THREADS = 4, 16
_DEFAULT_GROUPS = 64
_HELD_BYTES = 2**30
"""That all reader processes of a loader hold at most of their own memory; or a quarter of what the
machine has free, where that is less. Files of the machine's cache are shared and don't count."""
_Key = tuple[int, int, tuple[str, ...]]  # file, row group, columns


@dataclass
class _Held:
    """What belongs to one process: row groups by source, those that are coming, and threads."""

    sources: int
    threads: int
    process: int = field(default_factory=os.getpid)
    coming: dict[_Key, Future[pa.RecordBatch]] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.groups = [OrderedDict[_Key, pa.RecordBatch]() for _ in range(self.sources)]
        self.own: dict[_Key, int] = {}  # bytes of those that are no files of the machine's cache
        self.bytes = 0  # theirs together
        self.pool = ThreadPoolExecutor(self.threads, thread_name_prefix="rows")

    def keep(self, source: int, key: _Key, batch: pa.RecordBatch, own: int, most: int) -> None:
        """`own`: bytes of this process's memory. At most `most` row groups of the source stay."""
        self.groups[source][key] = batch
        self.bytes += own - self.own.get(key, 0)
        self.own[key] = own
        while len(self.groups[source]) > most:
            self.drop(source)

    def drop(self, source: int) -> None:
        """What was used longest ago."""
        key, _ = self.groups[source].popitem(last=False)
        self.bytes -= self.own.pop(key)

    def shrink(self, limit: int) -> None:
        """Until no more than `limit` bytes are this process's own: of the source with the most row
        groups first."""
        while self.bytes > limit:
            self.drop(max(range(len(self.groups)), key=lambda one: len(self.groups[one])))


class ShardDataset:
    """Training rows of an index by number, from any thread and after any fork.

    `columns`: those that rows have where `read` is not told; None: all. `weights` by source,
    default 1, and `left_out` (int64, sorted) are for the order. Row groups come through the
    machine's cache from a bucket, and from a folder where several processes read it or one can't
    hold what it needs. Raises UserError where there is no row.
    """

    def __init__(
        self,
        rows: Rows | Place | Path,
        *,
        columns: Sequence[str] | None = None,
        weights: Mapping[str, float] | None = None,
        left_out: np.ndarray | None = None,
    ) -> None:
        self.place = rows.place if isinstance(rows, Rows) else Place.of(rows)
        index = Rows(self.place).index()
        self.row_group, self._rows = index.row_group, index.rows
        if not self._rows:
            raise UserError(f"{self.place}/{INDEX} names no rows: check the source's rows")
        self.columns = index.columns if columns is None else tuple(columns)
        # A machine's cache goes by what the index says, checksums included.
        self._name = hashlib.sha256(repr((self.place, index)).encode()).hexdigest()[:16]
        self._reader = ShardReader(self.place, index.shards, index.row_group)
        self._begins = np.cumsum([0, *(shard.rows for shard in index.shards)])
        self.sources: tuple[SourceRows, ...] = ()
        self._source_of: list[int] = []
        for name, shards in groupby(index.shards, lambda shard: shard.source):
            sizes = [shard.rows for shard in shards]
            first = int(self._begins[len(self._source_of)])
            weight = (weights or {}).get(name, 1.0)
            one = SourceRows(name, first, sizes, self.row_group, weight, left_out)
            self._source_of += [len(self.sources)] * len(sizes)
            self.sources += (one,)
        self._most = [_DEFAULT_GROUPS] * len(self.sources)
        self._limit, self._shared, self._may_share = _HELD_BYTES, self.place.folder is None, False
        self._held: _Held | None = None
        self._node: NodeCache | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": None, "_node": None}

    def __len__(self) -> int:
        """Rows with those that are left out: one more than the largest number."""
        return self._rows

    def stored_bytes(self) -> int:
        """Of the shards that are read, as they lie in the storage."""
        files = zip(self._reader.files, self._source_of, strict=True)
        return sum(shard.size for shard, one in files if self.sources[one].weight > 0)

    def expect(self, lanes: int, rows_ahead: int, processes: int = 1) -> None:
        """Hold as much as reading `lanes` lanes of each source takes, `rows_ahead` rows of each
        lane ahead: their windows' row groups, and all of a source that is shuffled row by row. In
        each of several `processes`: all of a small corpus; else they read through the machine's
        cache, so that each row group is decoded once for all of them."""
        a_lane = WINDOW + 2 + -(-rows_ahead // self.row_group) + WINDOW // 2
        self._limit, self._may_share = _free_to_hold() // processes, True
        small = self.stored_bytes() <= self._limit
        self._shared |= processes > 1 and not small
        self._most = [
            one.groups
            if one.single or (small and processes > 1)
            else min(one.groups, lanes * a_lane)
            for one in self.sources
        ]

    def close(self) -> None:
        """Fetch nothing more; what is asked for later begins anew."""
        held, self._held = self._held, None
        if held is not None and held.process == os.getpid():
            held.pool.shutdown(wait=False, cancel_futures=True)
            self._reader.close()

    def ahead(self, rows: np.ndarray) -> None:
        """Begin to fetch what `read` will be asked for."""
        self._coming(self._places(rows)[0], self.columns)

    def read(self, rows: np.ndarray, columns: Sequence[str] | None = None) -> pa.Table:
        """The given rows [B] in their order; of their columns `columns`."""
        groups, of_row, inside = self._places(rows)
        coming = self._coming(groups, self.columns if columns is None else tuple(columns))
        batches = [one.result() if isinstance(one, Future) else one for one in coming]
        # Slices that are then joined: ten times as fast as to take a few rows of each row group.
        places = zip(of_row.tolist(), inside.tolist(), strict=True)
        return pa.Table.from_batches([batches[n].slice(i, 1) for n, i in places]).combine_chunks()

    def _places(self, rows: np.ndarray) -> tuple[list[tuple[int, int]], np.ndarray, np.ndarray]:
        """Row groups as file and number, and for each row which of them it is in, and where."""
        file = np.searchsorted(self._begins, rows, "right") - 1
        inside = rows - self._begins[file]
        key = file << 32 | inside // self.row_group
        unique, of_row = np.unique(key, return_inverse=True)
        groups = zip((unique >> 32).tolist(), (unique & (2**32 - 1)).tolist(), strict=True)
        return list(groups), of_row, inside % self.row_group

    def _here(self) -> _Held:
        if self._held is None or self._held.process != os.getpid():
            local = self.place.folder is not None
            self._reader = ShardReader(self.place, self._reader.files, self.row_group)
            self._node = NodeCache(self._name) if self._shared else None
            self._held = _Held(len(self.sources), _LOCAL_THREADS if local else _BUCKET_THREADS)
        return self._held

    def _coming(
        self, groups: Sequence[tuple[int, int]], columns: tuple[str, ...]
    ) -> list[pa.RecordBatch | Future[pa.RecordBatch]]:
        """Row groups that are held, and those that will be."""
        held, found = self._here(), []
        with held.lock:
            for file, group in groups:
                key = file, group, columns
                known = held.groups[self._source_of[file]]
                if key in known:
                    known.move_to_end(key)
                    found.append(known[key])
                    continue
                if key not in held.coming:
                    held.coming[key] = held.pool.submit(self._fetch, held, key)
                found.append(held.coming[key])
        return found

    def _fetch(self, held: _Held, key: _Key) -> pa.RecordBatch:
        file, group, columns = key
        source, made = self._source_of[file], []

        def read() -> pa.RecordBatch:
            made.append(self._reader.batch(file, group, columns))
            return made[0]

        try:
            if self._node is None:
                batch = read()
            else:
                names = hashlib.sha256("\0".join(columns).encode()).hexdigest()[:8]
                batch = self._node.batch(f"{file}-{group}-{names}", read)
            own = batch.nbytes if made and batch is made[0] else 0
            with held.lock:
                held.keep(source, key, batch, own, self._most[source])
                if held.bytes > self._limit and self._may_share and self._node is None:
                    self._node, self._shared = NodeCache(self._name), True
                held.shrink(self._limit)
            return batch
        finally:
            with held.lock:
                held.coming.pop(key, None)


def _free_to_hold() -> int:
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(_HELD_BYTES, free // 4)


def left_out_rows(mixture: Mixture) -> np.ndarray:
    """Numbers of the prepared rows that a mixture leaves out, int64 and sorted."""
    if mixture.place.size(LEFT_OUT) is None:
        return np.zeros(0, dtype=np.int64)
    return pq.read_table(pa.BufferReader(mixture.place.read(LEFT_OUT)))["row"].to_numpy()


def open_rows(mixture: Mixture, prepared: PreparedRows | None) -> ShardDataset:
    """A mixture's training rows: its own, or those of `prepared` that it takes, each source's as
    often as it says."""
    index = mixture.mixture()
    return ShardDataset(
        mixture if prepared is None else prepared,
        columns=index.columns,
        weights={source.name: source.weight for source in index.sources},
        left_out=left_out_rows(mixture),
    )
