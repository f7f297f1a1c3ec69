"""Texts that are nearly equal: MinHash of their runs of five words, compared by bands.

`datasketch` makes the signatures and says how many bands of how many values fit a similarity
(Jaccard, of the sets of runs). Texts that agree in a band are compared with the first of these by
their whole signatures, and are near duplicates where these say at least that similarity (give or
take 0.04). A chain of such pairs is one group.
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
_COMPARED, _BY_CHANCE = 2**16, 1 / 256  # pairs at a time; equal last 8 bits of other values


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
    """How many bands of how many values: nine of ten pairs of that similarity agree in one. Raises
    UserError where the package is not there."""
    found = _datasketch().MinHashLSH(
        threshold=similarity, num_perm=_PERMUTATIONS, weights=(0.1, 0.9)
    )
    return found.b, found.r


def _runs(text: str) -> list[bytes]:
    """Of five words each, in small letters; of a shorter text all of it."""
    words = text.casefold().split()
    last = max(1, len(words) - _WORDS + 1)
    return [" ".join(words[start : start + _WORDS]).encode() for start in range(last)]


def signatures_of(texts: Sequence[str]) -> np.ndarray:
    """uint32 [texts, 128]."""
    return signatures_of_sets([_runs(text) for text in texts])


def signatures_of_sets(sets: Sequence[Sequence[bytes]]) -> np.ndarray:
    """uint32 [sets, 128]."""
    options = {"num_perm": _PERMUTATIONS, "seed": _SEED}
    made = [one.hashvalues for one in _datasketch().MinHash.generator(sets, **options)]
    return np.array(made, dtype=np.uint32).reshape(len(sets), _PERMUTATIONS)


def band_hashes(signatures: np.ndarray, similarity: float) -> np.ndarray:
    """uint64 [N, bands]."""
    count, values = bands_of(similarity)
    result = np.empty((len(signatures), count), np.uint64)
    for row, signature in enumerate(signatures):
        parts = signature[: count * values].astype("<u4").reshape(count, values)
        for band, part in enumerate(parts):
            digest = hashlib.blake2b(part.tobytes(), digest_size=8).digest()
            result[row, band] = int.from_bytes(digest, "little")
    return result


def write_bands(
    place: Place, name: str, rows: np.ndarray, signatures: np.ndarray, similarity: float
) -> None:
    """A column for each band; `row`: which of a file's rows these are; `signature`: its last 8
    bits each."""
    hashes = band_hashes(signatures, similarity)
    low = signatures.astype(np.uint8).tobytes()
    column = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(_PERMUTATIONS), len(rows), [None, pa.py_buffer(low)]
    )
    bands = {f"{band}": column for band, column in enumerate(hashes.T)}
    sink = pa.BufferOutputStream()
    table = pa.table({"row": rows, "signature": column, **bands})
    pq.write_table(table, sink, use_dictionary=False)
    place.write(name, sink.getvalue().to_pybytes())


def pieces_of(rows: int) -> int:
    """In how many pieces a band's rows are joined."""
    return max(1, -(-rows // _JOINED))


def pairs_in(
    place: Place,
    files: Sequence[tuple[str, int]],
    band: int,
    piece: int,
    pieces: int,
    similarity: float,
) -> np.ndarray:
    """Near duplicates that agree in a band, int64 [N, 2]: each row with the first that agrees with
    it. `files`: name, and the number of the first row. Each pair is in one piece."""
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
    pairs = np.stack([heads[others], numbers[others]], axis=1)
    return pairs[_similarities(place, files, pairs) >= similarity]


def _similarities(place: Place, files: Sequence[tuple[str, int]], pairs: np.ndarray) -> np.ndarray:
    """float64 [pairs], by the signatures of their rows."""
    wanted = np.unique(pairs)
    signatures = np.zeros((len(wanted), _PERMUTATIONS), np.uint8)
    begins = np.array([first for _, first in files])
    file_of = np.searchsorted(begins, wanted, "right") - 1
    for number in np.unique(file_of):
        name, first = files[number]
        mine = np.flatnonzero(file_of == number)
        with place.open(name) as file:
            found = pq.read_table(file, columns=["row", "signature"])
        places = np.searchsorted(found["row"].to_numpy(), wanted[mine] - first)
        chosen = found["signature"].take(pa.array(places)).to_pylist()
        signatures[mine] = np.frombuffer(b"".join(chosen), np.uint8).reshape(len(mine), -1)
    one, other = np.searchsorted(wanted, pairs).T
    equal = np.empty(len(pairs))
    for start in range(0, len(pairs), _COMPARED):
        some = slice(start, start + _COMPARED)
        equal[some] = (signatures[one[some]] == signatures[other[some]]).mean(axis=1)
    return (equal - _BY_CHANCE) / (1 - _BY_CHANCE)


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
