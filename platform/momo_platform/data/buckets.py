"""What of the map's objects each task of the reduce reads.

The map divides rows by their digests into many fine buckets, before anyone knows how many bytes
there will be. From the bytes that it wrote neighbours are merged into buckets of about as many
bytes as are wanted, so that a wrong estimate makes no bucket that is too large for a task.

A process that merges holds a few parts' sizes and twice `_BLOCK_BYTES`, however many parts
there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from momo_platform.data.parts import (
    read_record,
    read_tables,
    rows_name,
    unit_name,
    write_record,
    write_table,
)
from momo_platform.stages.storage.place import Place

OBJECTS = "objects"
_BLOCK_BYTES = 2**25
_SIZE = np.dtype("<i8")


def write_sizes(parts: Place, part: str, sizes: Sequence[np.ndarray]) -> None:
    """Bytes of each fine bucket in each object of a part."""
    write_table(parts, f"{part}.sizes.arrow", pa.table({"size": np.concatenate(sizes)}))


def _sizes(parts: Place, objects: Mapping[str, int]) -> Iterator[np.ndarray]:
    """int64 [objects, fine buckets] of each part that has some."""
    counts = {part: count for part, count in objects.items() if count}
    tables = read_tables(parts, [f"{part}.sizes.arrow" for part in counts])
    for count, table in zip(counts.values(), tables, strict=True):
        yield table["size"].to_numpy().reshape(count, -1)


def merged(sizes: np.ndarray, bucket_bytes: int) -> np.ndarray:
    """Where buckets of about `bucket_bytes` begin among fine ones of these sizes, and the end of
    the last: int64 [buckets + 1]. None is empty, unless all are."""
    ends = np.cumsum(sizes)
    whole = int(ends[-1])
    count = max(1, -(-whole // bucket_bytes))
    inner = [whole * number // count for number in range(1, count)]
    inner_edges = np.searchsorted(ends, inner, "left") + 1
    edges = np.unique(np.concatenate([[0], inner_edges, [len(sizes)]])).astype(np.int64)
    filled = np.add.reduceat(sizes, edges[:-1]) > 0
    filled[0] = True
    return np.append(edges[:-1][filled], len(sizes))


def write_ranges(
    parts: Place, objects: Mapping[str, int], fine: int, bucket_bytes: int
) -> list[int]:
    """Decide the buckets from what the map wrote, and tell the reduce; returns their bytes.
    `objects`: how many each part has, in order; `fine`: how many fine buckets."""
    totals = np.zeros(fine, np.int64)
    for sizes in _sizes(parts, objects):
        totals += sizes.sum(axis=0)
    edges = merged(totals, bucket_bytes)
    step = max(1, _BLOCK_BYTES // (_SIZE.itemsize * len(edges)))
    names = [rows_name(part, n) for part, count in objects.items() for n in range(count)]
    block, held, blocks = np.empty((len(edges), min(step, len(names))), _SIZE), 0, 0
    for number, ends in enumerate(
        np.cumsum(one) for sizes in _sizes(parts, objects) for one in sizes
    ):
        block[:, held] = np.append(0, ends)[edges]
        held += 1
        if held == step or number == len(names) - 1:
            parts.write(f"ranges/{unit_name(blocks)}.int64", block[:, :held].tobytes())
            held, blocks = 0, blocks + 1
    write_record(parts, OBJECTS, {"names": names, "block": step, "buckets": len(edges) - 1})
    return np.add.reduceat(totals, edges[:-1]).tolist()


def read_ranges(parts: Place, bucket: int) -> tuple[list[str], list[int], list[int]]:
    """The map's objects, and where a bucket begins and ends in each."""
    record = read_record(parts, OBJECTS)
    assert record is not None
    names, step = record["names"], record["block"]
    found = [np.empty((2, 0), _SIZE)]
    for start in range(0, len(names), step):
        row = _SIZE.itemsize * min(step, len(names) - start)
        file = f"ranges/{unit_name(start // step)}.int64"
        raw = parts.read_range(file, row * bucket, 2 * row)
        found.append(np.frombuffer(raw, _SIZE).reshape(2, -1))
    starts, stops = np.concatenate(found, axis=1).tolist()
    return names, starts, stops
