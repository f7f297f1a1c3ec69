"""Pictures that look alike: a perceptual hash, and an index of the held-out ones.

A picture's *look* is 56 bytes: 64 bits of a DCT hash (Zauner 2010) over its brightness, and the
mean colours of 4 × 4 cells, since the hash alone takes a red heart for a blue one. Two pictures are
near duplicates when few bits differ and no cell's colour does by more than 16 of 255. A picture
with hardly any contrast has no look: all white pages would be each other's duplicates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

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


@dataclass(frozen=True)
class Match:
    """The held-out picture that a training one looks like, and how many bits differ."""

    source: str
    key: str
    bits: int


class LookIndex:
    """Looks of held-out pictures, searched without comparing each with each.

    The hash is cut into `bits` + 1 bands: two hashes that differ in at most `bits` bits agree in
    one band at least, so only pictures that share a band are compared. Memory is about 200 bytes a
    look and 100 bytes a band. A negative `bits` finds nothing and keeps nothing.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        edges = [8 * _HASH_BYTES * i // (bits + 1) for i in range(bits + 2)] if bits >= 0 else []
        self._bands = [(low, (1 << (high - low)) - 1) for low, high in pairwise(edges)]
        self._places: dict[tuple[int, int], list[int]] = {}
        self._hashes: list[int] = []
        self._colours: list[np.ndarray] = []
        self._keys: list[tuple[str, str]] = []
        self._known: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._keys)

    def _band_values(self, value: int) -> Iterator[tuple[int, int]]:
        for number, (shift, mask) in enumerate(self._bands):
            yield number, (value >> shift) & mask

    def _sharing_a_band(self, value: int) -> set[int]:
        return {n for place in self._band_values(value) for n in self._places.get(place, ())}

    def add(self, look: bytes | None, source: str, key: str) -> None:
        """Keep a held-out picture's look; of equal looks the first."""
        if look is None or self.bits < 0 or look in self._known:
            return
        self._known.add(look)
        value = int.from_bytes(look[:_HASH_BYTES], "big")
        for place in self._band_values(value):
            self._places.setdefault(place, []).append(len(self._keys))
        self._hashes.append(value)
        self._colours.append(np.frombuffer(look, np.uint8, offset=_HASH_BYTES).astype(np.int16))
        self._keys.append((source, key))

    def find(self, look: bytes | None) -> Match | None:
        """The nearest held-out picture within `bits`, of equally near ones the first; or None."""
        if look is None or not self._keys:
            return None
        value = int.from_bytes(look[:_HASH_BYTES], "big")
        colours = np.frombuffer(look, np.uint8, offset=_HASH_BYTES).astype(np.int16)
        near = sorted(
            ((value ^ self._hashes[n]).bit_count(), n) for n in self._sharing_a_band(value)
        )
        for distance, number in near:
            if distance > self.bits:
                break
            if np.abs(colours - self._colours[number]).max() <= _COLOUR_TOLERANCE:
                return Match(*self._keys[number], distance)
        return None
