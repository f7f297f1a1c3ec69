"""Which prepared rows repeat each other, found by their digests.

A digest is half the sha256 of a row's content. Rows come in the order of their digests, which is
no order at all; of one digest the held-out ones first. Exact repeats go; so does a training row
whose content is held out. Two rows with one picture and other captions are none.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa

from momo_platform.data.parts import DIGEST

HELD_OUT = ("test", "valid")  # in the order in which they come first
_BYTES = 16


def digests_of(values: pa.ChunkedArray) -> pa.Array:
    """Of a column of texts or bytes."""
    raw = (v if isinstance(v, bytes) else v.encode() for v in values.to_pylist())
    return pa.array([hashlib.sha256(v).digest()[:_BYTES] for v in raw], pa.binary(_BYTES))


def _digest_words(table: pa.Table) -> np.ndarray:
    """uint64 [rows, 2], whose order is that of the digests."""
    column = table[DIGEST].combine_chunks()
    raw = np.frombuffer(column.buffers()[1], np.uint8) if len(column) else np.empty(0, np.uint8)
    raw = raw[_BYTES * column.offset :][: _BYTES * len(column)]
    return raw.reshape(-1, _BYTES).view(">u8").astype(np.uint64)


def split_ranks(table: pa.Table) -> np.ndarray:
    """int64 [rows]: the place of its split in HELD_OUT, or one more."""
    places = {split: place for place, split in enumerate(HELD_OUT)}
    found = (places.get(split, len(HELD_OUT)) for split in table["split"].to_pylist())
    return np.fromiter(found, np.int64, len(table))


def buckets_of(table: pa.Table, count: int) -> np.ndarray:
    """int64 [rows]: each row's bucket, by the first bits of its digest."""
    words = _digest_words(table)[:, 0]
    # Python's whole numbers: a product of 64 bits by `count` is too large for NumPy's.
    edges = np.array([-((-number << 64) // count) for number in range(1, count)], np.uint64)
    return np.searchsorted(edges, words, "right")


def in_order(table: pa.Table, *, by_key: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows' numbers in order, and of each of these whether it goes as a repeat. Of equal rows the
    first by source and key is kept, or (`by_key` False) the first in the table."""
    words, ranks = _digest_words(table), split_ranks(table)
    order = np.lexsort((ranks, words[:, 1], words[:, 0]))
    goes = np.zeros(len(order), bool)
    same = (words[order][1:] == words[order][:-1]).all(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    if not len(edges):
        return order, goes
    runs = edges.reshape(-1, 2) + np.array([0, 1])  # [start, stop] of rows with one digest
    names = [n for n in ("source", "key", "captions") if n in table.column_names]
    members = np.concatenate([order[start:stop] for start, stop in runs])
    known = dict(zip(members.tolist(), table.select(names).take(members).to_pylist(), strict=True))
    for start, stop in runs:
        run = order[start:stop].tolist()
        if by_key:
            run.sort(key=lambda n: (ranks[n], known[n]["source"], known[n]["key"]))
        order[start:stop] = run
        goes[start:stop] = _repeats([known[n] for n in run], [int(ranks[n]) for n in run])
    return order, goes


def _repeats(rows: list[dict[str, Any]], ranks: list[int]) -> list[bool]:
    """Which rows of one digest go."""
    training, seen = len(HELD_OUT), set()
    found = []
    for row, rank in zip(rows, ranks, strict=True):
        whole = "\0".join(row.get("captions") or ())
        goes = whole in seen or (rank == training and ranks[0] != training)
        found.append(goes)
        if not goes:
            seen.add(whole)
    return found
