"""Pictures that look alike: a perceptual hash, and an index of the held-out ones.

A picture's *look* is 56 bytes: 64 bits of a DCT hash (Zauner 2010) over its brightness, and the
mean colours of 4 × 4 cells, since the hash alone takes a red heart for a blue one. Two pictures are
near duplicates when few bits differ and no cell's colour does by more than 16 of 255. A picture
with hardly any contrast has no look: all white pages would be each other's duplicates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from PIL import Image

from momo_platform.data.config import NEAR_BITS as NEAR_BITS

_SIDE, _KEPT, _CELLS = 32, 8, 4
_HASH_BYTES = _KEPT * _KEPT // 8
LOOK_BYTES = _HASH_BYTES + 3 * _CELLS**2
_COLOUR_TOLERANCE = 16
_MIN_CONTRAST = 4.0  # standard deviation of the brightness, of 255
# What exceeds the median by less is noise: symmetrical pictures have many coefficients about zero,
# whose bits flip with every encoding.
_DEAD_ZONE = 64.0
_BAND_BITS = 12  # of a band at most: two and a colour are a key of 32 bits
_SAMPLE = 2**16  # looks that tell how real ones differ
_BATCH, _COMPARED = 2**16, 2**18  # looks searched, and pairs compared, at a time
_NOTHING = 2**62


def _cosines() -> np.ndarray:
    frequencies, places = np.arange(_KEPT)[:, None], 2 * np.arange(_SIDE)[None] + 1
    return np.cos(np.pi * places * frequencies / (2 * _SIDE))


_BASIS = _cosines()


def look_of(picture: Image.Image) -> bytes | None:
    """A picture in mode RGB → its look, or None when it is too plain to have one."""
    small = picture.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    brightness = np.asarray(small, dtype=np.float64)
    if brightness.std() < _MIN_CONTRAST:
        return None
    waves = (_BASIS @ brightness @ _BASIS.T).reshape(-1)
    # Rounded: the last bits of a product differ between machines.
    bits = np.rint(waves) > np.rint(np.median(waves[1:])) + _DEAD_ZONE
    cells = np.asarray(picture.resize((_CELLS, _CELLS), Image.Resampling.BOX), dtype=np.uint8)
    return np.packbits(bits).tobytes() + cells.tobytes()


def _as_array(looks: Iterable[bytes | None]) -> np.ndarray:
    """[those that are there, LOOK_BYTES]"""
    raw = b"".join(look for look in looks if look is not None)
    return np.frombuffer(raw, np.uint8).reshape(-1, LOOK_BYTES)


def _hashes(looks: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(looks[:, :_HASH_BYTES]).view(np.uint64)[:, 0]


def _bands(looks: np.ndarray, count: int) -> list[np.ndarray]:
    """The hash's bits in disjoint bands, those first that tell most of these looks apart."""
    share = np.unpackbits(looks[:, :_HASH_BYTES], axis=1).mean(axis=0)
    order = np.argsort(np.abs(share - 0.5), kind="stable")
    return [order[start::count] for start in range(count)]


def _codes(looks: np.ndarray, bands: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Each look's value of each band's first bits."""
    bits = np.unpackbits(looks[:, :_HASH_BYTES], axis=1)
    cut = [band[:_BAND_BITS] for band in bands]
    return [(bits[:, band] @ (1 << np.arange(len(band)))).astype(np.uint32) for band in cut]


def _telling_colour(looks: np.ndarray) -> int:
    """Of the 48 colours of a look the one in which the fewest of these looks are near by."""
    crowds = []
    for values in looks[:, _HASH_BYTES:].T:
        counts = np.bincount(values, minlength=256)
        near = np.convolve(counts, np.ones(2 * _COLOUR_TOLERANCE + 1), "same")
        crowds.append(float((counts * near).sum()))
    return int(np.argmin(crowds))


class LookIndex:
    """Looks of held-out pictures, searched for many others at once.

    The hash is cut into `bits` + 2 bands: two hashes that differ in at most `bits` bits agree in
    two bands at least, so pictures are compared only where they share a pair of bands (Manku, Jain
    and Das Sarma 2007) and are near by in one colour. A pair has up to 24 bits, so few of half a
    million looks share one by chance. Which bits and which colour follows from the looks, as those
    of real pictures are alike in many; what is found does not. Memory is 68 bytes a look and 8 for
    each pair (15 where 4 bits may differ); pickled, it is the looks. A negative `bits` finds
    nothing and keeps nothing.
    """

    def __init__(self, looks: Iterable[bytes | None], bits: int) -> None:
        first: dict[bytes, int] = {}
        for number, look in enumerate(looks if bits >= 0 else ()):
            if look is not None:
                first.setdefault(look, number)
        self.bits = bits
        self._looks = _as_array(first)
        self._numbers = np.fromiter(first.values(), np.int32, len(first))
        self._sort()

    def _sort(self) -> None:
        """Make the tables: for each pair of bands the sorted keys and the looks that have them."""
        self._hashes, self._tables = _hashes(self._looks), []
        if not len(self):
            return
        sample = self._looks[:: -(-len(self) // _SAMPLE)]
        self._bands, self._colour = _bands(sample, self.bits + 2), _telling_colour(sample)
        codes = _codes(self._looks, self._bands)
        colour = self._looks[:, _HASH_BYTES + self._colour]
        for one, other in combinations(codes, 2):
            keys = _key(one, other, colour)
            order = np.argsort(keys, kind="stable").astype(np.int32)
            self._tables.append((keys[order], order))

    def __len__(self) -> int:
        """Looks that differ."""
        return len(self._looks)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.bits, self._looks, self._numbers)

    def find_many(self, looks: Sequence[bytes | None]) -> tuple[np.ndarray, np.ndarray]:
        """Of each look the nearest held-out one within `bits` whose colours are alike, of equally
        near ones the first: its number among those that the index was made of, and how many bits
        differ (int64 both, -1 where there is none)."""
        numbers, bits = np.full((2, len(looks)), -1, np.int64)
        places = np.array([n for n, look in enumerate(looks) if look is not None], np.int64)
        wanted = _as_array(looks)
        for start in range(0, len(wanted) if len(self) else 0, _BATCH):
            best = self._nearest(wanted[start : start + _BATCH])
            hit = np.flatnonzero(best < _NOTHING)
            numbers[places[start + hit]] = self._numbers[best[hit] % 2**32]
            bits[places[start + hit]] = best[hit] // 2**32
        return numbers, bits

    def _nearest(self, looks: np.ndarray) -> np.ndarray:
        """Of each look: 2³² times the bits that differ, plus the nearest one's number; or
        _NOTHING."""
        best = np.full(len(looks), _NOTHING)
        hashes, codes = _hashes(looks), _codes(looks, self._bands)
        colour = looks[:, _HASH_BYTES + self._colour].astype(np.int16)
        low, high = ((colour + d).clip(0, 255) for d in (-_COLOUR_TOLERANCE, _COLOUR_TOLERANCE))
        for (one, other), (keys, order) in zip(combinations(codes, 2), self._tables, strict=True):
            least, most = _key(one, other, low), _key(one, other, high)
            rows = np.argsort(least)  # in order, searches stay in the processor's cache
            start = np.searchsorted(keys, least[rows], "left")
            some = keys[np.minimum(start, len(keys) - 1)] <= most[rows]
            rows, start = rows[some & (start < len(keys))], start[some & (start < len(keys))]
            stop = np.searchsorted(keys, most[rows], "right")
            for whose, places in _spans(start, stop):
                pairs = rows[whose], order[places]
                self._compare(looks, hashes, *pairs, best)
        return best

    def _compare(
        self,
        looks: np.ndarray,
        hashes: np.ndarray,
        rows: np.ndarray,
        numbers: np.ndarray,
        best: np.ndarray,
    ) -> None:
        """Lower `best` of `rows` of `looks` where the look of that number is nearer."""
        bits = np.bitwise_count(hashes[rows] ^ self._hashes[numbers]).astype(np.int64)
        values = bits * 2**32 + numbers
        nearer = (bits <= self.bits) & (values < best[rows])
        rows, numbers, values = rows[nearer], numbers[nearer], values[nearer]
        ours = looks[rows, _HASH_BYTES:].astype(np.int16)
        alike = np.abs(ours - self._looks[numbers, _HASH_BYTES:]).max(axis=1, initial=0)
        alike = alike <= _COLOUR_TOLERANCE
        np.minimum.at(best, rows[alike], values[alike])


def _unpickled(bits: int, looks: np.ndarray, numbers: np.ndarray) -> LookIndex:
    index = LookIndex((), bits)
    index._looks, index._numbers = looks, numbers
    index._sort()
    return index


def _key(one: np.ndarray, other: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Two bands' codes and a colour in 32 bits, the colour last."""
    return (one << (_BAND_BITS + 8)) | (other << 8) | colour.astype(np.uint32)


def _spans(start: np.ndarray, stop: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Spans from `start` to `stop` number by number: (whose span, number), not too many at once."""
    ends = np.cumsum(stop - start)
    total = int(ends[-1]) if len(ends) else 0
    for begin in range(0, total, _COMPARED):
        count = np.arange(begin, min(begin + _COMPARED, total))
        whose = np.searchsorted(ends, count, "right")
        yield whose, stop[whose] - (ends[whose] - count)
