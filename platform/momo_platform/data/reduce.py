"""The reduce of a preparation: a task makes the shards of a bucket.

It reads the bucket's range of each object that the map wrote, drops repeats and what looks like a
held-out picture, and writes one shard a source, and one file of what is held out. The order of
digests is the order of rows, so that any stretch of a shard is a random sample.
"""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from momo_platform.data.artifacts import HELD_OUT as HELD_OUT_FOLDER
from momo_platform.data.artifacts import SHARDS
from momo_platform.data.buckets import read_ranges
from momo_platform.data.card import CardBuilder
from momo_platform.data.near import LookIndex
from momo_platform.data.parts import (
    Job,
    read_record,
    read_table,
    unit_name,
    write_record,
    write_table,
)
from momo_platform.data.repeats import HELD_OUT, in_order, split_ranks
from momo_platform.data.shards import write_rows
from momo_platform.stages.storage.place import Place

LOOKS = "looks.arrow"
NEAR_SCHEMA = pa.schema(
    {
        **{n: pa.string() for n in ("source", "key", "held_out_source", "held_out_key")},
        "bits": pa.int32(),
    }
)
_READERS = 8
_LONGEST_NAME = 100  # characters
_COUNTED = 256  # rows that are counted at a time
_GROUPS = 16  # row groups that are written at a time


def shard_name(source: str, bucket: int) -> str:
    """Of a source's rows in a bucket; of any name a file's, another even where case is ignored."""
    plain = re.sub(r"[^a-z0-9_.-]|^\.", "_", source.lower())[:_LONGEST_NAME]
    if plain != source:
        plain += "-" + hashlib.sha256(source.encode()).hexdigest()[:8]
    return f"{SHARDS}/{plain}-{bucket:05d}.parquet"


def write_looks(job: Job, looks: list[pa.Table]) -> None:
    """Held-out looks, which all reduce tasks read."""
    if looks:
        table = pa.concat_tables(looks)
        table = table.append_column("rank", pa.array(split_ranks(table)))
        keys = [(name, "ascending") for name in ("rank", "source", "key")]
        write_table(job.parts, LOOKS, table.sort_by(keys))


def _wide(kind: pa.DataType) -> pa.DataType:
    """A type whose columns may have more than 2 GB."""
    if pa.types.is_binary(kind):
        return pa.large_binary()
    if pa.types.is_string(kind):
        return pa.large_string()
    return pa.large_list(_wide(kind.value_type)) if pa.types.is_list(kind) else kind


def _read_bucket(job: Job, bucket: int) -> pa.Table:
    """Rows in the order of units and parts. Their columns are those of `job.kept`, but wide: a
    bucket of one digest has as many bytes as there are rows of it."""
    names, *edges = read_ranges(job.parts, bucket)

    def rows(name: str, start: int, stop: int) -> list[pa.RecordBatch]:
        if start == stop:
            return []
        with job.parts.open(name) as file:
            file.seek(start)
            raw = pa.BufferReader(file.read_buffer(stop - start))
        batches = []
        while raw.tell() < stop - start:
            batches.append(pa.ipc.read_record_batch(pa.ipc.read_message(raw), job.kept))
        return batches

    with ThreadPoolExecutor(_READERS) as pool:
        found = [batch for some in pool.map(rows, names, *edges) for batch in some]
    wide = pa.schema([field.with_type(_wide(field.type)) for field in job.kept])
    return pa.Table.from_batches(found, schema=job.kept).cast(wide).combine_chunks()


@lru_cache(maxsize=1)  # for the tasks of one process
def _held_out_looks(parts: Place, bits: int) -> tuple[pa.Table, LookIndex]:
    table = read_table(parts, LOOKS)
    return table, LookIndex(table["look"].to_pylist(), bits)


def _find_near(job: Job, table: pa.Table, rows: np.ndarray) -> tuple[np.ndarray, pa.Table]:
    """Those of these training rows that look like a held-out one, and what is written of them."""
    if job.near_bits is None or job.near_bits < 0 or job.parts.size(LOOKS) is None:
        return rows[:0], NEAR_SCHEMA.empty_table()
    held_out, index = _held_out_looks(job.parts, job.near_bits)
    numbers, bits = index.find_many(table["look"].take(rows).to_pylist())
    hits = np.flatnonzero(numbers >= 0)
    ours = table.select(["source", "key"]).take(rows[hits])
    theirs = held_out.select(["source", "key"]).take(numbers[hits])
    columns = [*ours.columns, *theirs.columns, pa.array(bits[hits], pa.int32())]
    return rows[hits], pa.table(columns, names=NEAR_SCHEMA.names).cast(NEAR_SCHEMA)


def reduce_bucket(job: Job, bucket: int) -> dict[str, Any]:
    """Make a bucket's shards; returns its record, or that of shards that are there."""
    name = f"reduce/{unit_name(bucket)}"
    record = read_record(job.parts, name)
    if record is not None and all(
        job.output.size(file["file"]) == file["size"]
        for file in (*record["shards"], *record["held_out"])
    ):
        return record
    table = _read_bucket(job, bucket)
    order, goes = in_order(table, by_key=job.by_key)
    training = split_ranks(table)[order] == len(HELD_OUT)
    near, told = _find_near(job, table, order[training & ~goes])
    if len(near):
        write_table(job.parts, f"{name}.near.arrow", told)
    alike = np.isin(order, near)
    fates = np.select([goes, alike], ["duplicates", "near_duplicates"], "kept")
    card = _counted(job, table, order, fates)
    kept = ~goes & ~alike
    files = _write_shards(job, table, bucket, order[kept & training], order[kept & ~training])
    record = files | {"near": len(near), "card": card.record()}
    write_record(job.parts, name, record)
    return record


def _counted(job: Job, table: pa.Table, order: np.ndarray, fates: np.ndarray) -> CardBuilder:
    card = CardBuilder(job.kind)
    for start in range(0, len(order), _COUNTED):
        rows = table.take(order[start : start + _COUNTED]).to_pylist()
        for row, fate in zip(rows, fates[start : start + _COUNTED].tolist(), strict=True):
            card.count(row, fate)
    return card


def _write_shards(
    job: Job, table: pa.Table, bucket: int, training: np.ndarray, held_out: np.ndarray
) -> dict[str, Any]:
    """One file a source of the rows `training`, in this order, and one of those `held_out`."""
    names = np.array(table["source"].to_pylist(), object)
    shards = [
        _write(job, shard_name(source.name, bucket), source.name, table, rows)
        for source in job.config.sources
        if len(rows := training[names[training] == source.name])
    ]
    file = f"{HELD_OUT_FOLDER}/{bucket:05d}.parquet"
    others = [_write(job, file, "", table, held_out)] if len(held_out) else []
    return {"shards": shards, "held_out": others}


def _write(job: Job, name: str, source: str, table: pa.Table, rows: np.ndarray) -> dict[str, Any]:
    """A file of these rows; returns its ShardFile."""
    step = _GROUPS * job.row_group
    starts = range(0, len(rows), step)
    some = (table.take(rows[start : start + step]).cast(job.kept) for start in starts)
    return vars(write_rows(job.output, name, some, job.row_group, source))
