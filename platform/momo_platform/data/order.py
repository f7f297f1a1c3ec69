"""Sample order and randomness as pure functions of (seed, epoch, position)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014), on uint64 arrays."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def sample_seeds(seed: int, epochs: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """uint64 [B]: one seed a sample from (seed, epoch, row), the same on every worker."""
    with np.errstate(over="ignore"):
        x = _mix(np.full(len(rows), seed, dtype=np.uint64) + _GOLDEN)
        x = _mix(x + epochs.astype(np.uint64) * _GOLDEN)
        return _mix(x + rows.astype(np.uint64) * _GOLDEN)


def uniform(seeds: np.ndarray, n: int, stream: int = 0) -> np.ndarray:
    """float32 [B, n] in [0, 1): a counter-based generator keyed by each sample's seed.

    `stream` separates independent uses of one sample's seed.
    """
    with np.errstate(over="ignore"):
        counters = np.arange(1, n + 1, dtype=np.uint64) + np.uint64(stream) * np.uint64(1 << 32)
        bits = _mix(seeds[:, None] + counters[None, :] * _GOLDEN)
    return ((bits >> np.uint64(40)).astype(np.float32)) * np.float32(2.0**-24)


def permuted(places: np.ndarray, size: int, seed: int, epoch: int) -> np.ndarray:
    """uint64: where a random permutation of 0 … size - 1 takes each of `places`.

    A Feistel network over the next even number of bits, walked until it ends inside the range
    (Black and Rogaway 2002, "Ciphers with arbitrary finite domains"): no table is held.
    """
    half = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    with np.errstate(over="ignore"):
        key = _mix(np.array([seed & (2**64 - 1)], dtype=np.uint64) + _GOLDEN)
        key = _mix(key + np.uint64(epoch) * _GOLDEN)
        result = places.astype(np.uint64)
        outside = np.ones(len(result), dtype=bool)
        while outside.any():
            left, right = result[outside] >> half, result[outside] & mask
            for number in range(4):
                mixed = _mix(right + key + np.uint64(number + 1) * _GOLDEN)
                left, right = right, left ^ (mixed & mask)
            result[outside] = (left << half) | right
            outside = result >= np.uint64(size)
    return result


@dataclass(frozen=True)
class SampleOrder:
    """Every row once an epoch, in an order that a restart computes again.

    Row groups ("blocks" of `block` rows) are permuted over the whole corpus; rows are shuffled
    within a window of `window` consecutive permuted blocks, so a reader holds one window's rows.
    Memory and the time to any position do not depend on the corpus's size. A last, shorter block
    always comes last in an epoch.
    """

    rows: int
    block: int
    seed: int
    window: int = 16

    def __post_init__(self) -> None:
        if self.rows <= 0:
            raise ValueError("a corpus of no rows has no order")

    def rows_at(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Epochs and rows, int64 [stop - start], of positions start … stop of the endless order."""
        epochs, rows = [], []
        position = start
        while position < stop:
            epoch, offset = divmod(position, self.rows)
            size = self.block * self.window
            window, inside = divmod(offset, size)
            members = self._window(epoch, window)
            take = members[inside : inside + stop - position]
            epochs.append(np.full(len(take), epoch, dtype=np.int64))
            rows.append(take)
            position += len(take)
        return np.concatenate(epochs), np.concatenate(rows)

    def _window(self, epoch: int, window: int) -> np.ndarray:
        first = window * self.window
        last = min(first + self.window, self._whole + (1 if self.rows % self.block else 0))
        places = np.arange(first, min(last, self._whole), dtype=np.uint64)
        blocks = permuted(places, self._whole, self.seed ^ 0xB10C, epoch).astype(np.int64)
        if last > self._whole:
            blocks = np.append(blocks, self._whole)
        members = [
            np.arange(b * self.block, min((b + 1) * self.block, self.rows), dtype=np.int64)
            for b in blocks
        ]
        generator = np.random.Generator(np.random.Philox(key=[self.seed, (epoch << 32) + window]))
        return generator.permutation(np.concatenate(members))

    @property
    def _whole(self) -> int:
        return self.rows // self.block
