"""Texts that are nearly equal: MinHash of their runs of five words, compared by bands.

`datasketch` makes the signatures and says how many bands of how many values fit a similarity
(Jaccard, of the sets of runs). Two texts that agree in a band are near duplicates; a chain of such
texts is one group. At the similarity itself about every second pair is found, far above it nearly
all, far below it nearly none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from momo_platform.stages.errors import UserError
from momo_platform.stages.storage.place import Place

_PERMUTATIONS, _SEED, _WORDS = 128, 1, 5
_JOINED = 2**23
"""Rows that a task of the join holds, 16 bytes each."""


def _datasketch() -> Any:
    """Raises UserError where it is not there."""
    try:
        import datasketch
    except ImportError:
        raise UserError(
            "--quality.near-duplicates: the package datasketch is not there: pip install datasketch"
        ) from None
    return datasketch


@lru_cache(maxsize=4)
def bands_of(similarity: float) -> tuple[int, int]:
    """How many bands of how many values. Raises UserError where the package is not there."""
    lsh = _datasketch().MinHashLSH(threshold=similarity, num_perm=_PERMUTATIONS)
    return lsh.b, lsh.r


def _runs(text: str) -> list[bytes]:
    """Of five words each, in small letters; of a shorter text all of it."""
    words = text.casefold().split()
    last = max(1, len(words) - _WORDS + 1)
    return [" ".join(words[start : start + _WORDS]).encode() for start in range(last)]


def band_hashes(texts: Sequence[str], similarity: float) -> np.ndarray:
    """uint64 [texts, bands]."""
    return band_hashes_of([_runs(text) for text in texts], similarity)


def band_hashes_of(sets: Sequence[Sequence[bytes]], similarity: float) -> np.ndarray:
    """uint64 [sets, bands]."""
    count, values = bands_of(similarity)
    result = np.empty((len(sets), count), np.uint64)
    options = {"num_perm": _PERMUTATIONS, "seed": _SEED}
    made = _datasketch().MinHash.generator(sets, **options)
    for row, signature in enumerate(made):
        parts = signature.hashvalues[: count * values].astype("<u8").reshape(count, values)
        for band, part in enumerate(parts):
            digest = hashlib.blake2b(part.tobytes(), digest_size=8).digest()
            result[row, band] = int.from_bytes(digest, "little")
    return result


def write_bands(place: Place, name: str, hashes: np.ndarray, rows: np.ndarray) -> None:
    """A column for each band, and `row`: which of a file's rows these are."""
    bands = {f"{band}": column for band, column in enumerate(hashes.T)}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"row": rows, **bands}), sink, use_dictionary=False)
    place.write(name, sink.getvalue().to_pybytes())


def pieces_of(rows: int) -> int:
    """In how many pieces a band's rows are joined."""
    return max(1, -(-rows // _JOINED))


def pairs_in(
    place: Place, files: Sequence[tuple[str, int]], band: int, piece: int, pieces: int
) -> np.ndarray:
    """Rows that agree in a band, int64 [N, 2]: each with the first of its group. `files`: name, and
    the number of the first row. Each pair is in one piece."""
    hashes, rows = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for name, first in files:
        with place.open(name) as file:
            found = pq.read_table(file, columns=["row", f"{band}"])
        values = found[f"{band}"].to_numpy()
        mine = np.flatnonzero(values % np.uint64(pieces) == piece)
        hashes.append(values[mine])
        rows.append(first + found["row"].to_numpy()[mine])
    values, numbers = np.concatenate(hashes), np.concatenate(rows)
    order = np.lexsort((numbers, values))
    values, numbers = values[order], numbers[order]
    begins = np.flatnonzero(np.append(len(values) > 0, values[1:] != values[:-1]))
    heads = np.repeat(numbers[begins], np.diff(np.append(begins, len(values))))
    others = heads != numbers
    return np.stack([heads[others], numbers[others]], axis=1)


def repeats_among(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are chained by pairs: of each group all but the first, int64 sorted; and the first
    one's number beside each."""
    if not len(pairs):
        return pairs.reshape(-1), pairs.reshape(-1)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, places = np.unique(pairs, return_inverse=True)
    one, other = places.reshape(-1, 2).T
    graph = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(len(rows), len(rows)))
    groups = connected_components(graph, directed=False)[1]
    heads = rows[np.unique(groups, return_index=True)[1]][groups]
    goes = heads != rows
    return rows[goes], heads[goes]
