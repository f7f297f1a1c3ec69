"""Vectors made smaller: fewer dimensions, 8-bit integers, signs. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Stored = Literal["int8", "binary"]


def check_dimensions(dimensions: int, width: int) -> None:
    """Raise ValueError where vectors of `width` numbers have no such part."""
    if not 1 <= dimensions <= width:
        raise ValueError(f"dimensions={dimensions}: the model's vectors have 1 to {width}")


def truncate(vectors: np.ndarray, dimensions: int) -> np.ndarray:
    """float32 [N, E] → the first `dimensions` numbers of each, of length 1 again: [N, dimensions].

    A model trained with `task.contrastive_prefixes` has its meaning there first (Matryoshka
    representation learning, arXiv 2205.13147). Raises ValueError for dimensions out of range.
    """
    check_dimensions(dimensions, vectors.shape[-1])
    part = np.asarray(vectors[..., :dimensions], dtype=np.float32)
    return part / np.maximum(np.linalg.norm(part, axis=-1, keepdims=True), 1e-12)


@dataclass(frozen=True)
class Ranges:
    """How int8 codes stand for numbers, by dimension: `code * step + middle`; float32 [E] each."""

    step: np.ndarray
    middle: np.ndarray

    @classmethod
    def of(cls, sample: np.ndarray) -> Ranges:
        """From the smallest to the largest number of each dimension of a sample [N, E] of the
        vectors; what lies outside has the code at the end. Raises ValueError for an empty sample.
        """
        if not len(sample):
            raise ValueError("ranges of int8 codes are of a sample of vectors: give at least one")
        low, high = sample.min(axis=0), sample.max(axis=0)
        step = np.maximum((high - low) / 254, 1e-9)
        return cls(step.astype(np.float32), ((low + high) / 2).astype(np.float32))

    def codes(self, vectors: np.ndarray) -> np.ndarray:
        """float32 [N, E] → int8 [N, E], -127 to 127."""
        scaled = (np.asarray(vectors, dtype=np.float32) - self.middle) / self.step
        return np.clip(np.rint(scaled), -127, 127).astype(np.int8)

    def vectors(self, codes: np.ndarray) -> np.ndarray:
        """int8 [N, E] → float32 [N, E], about what they were."""
        return codes.astype(np.float32) * self.step + self.middle

    def scores(self, codes: np.ndarray, queries: np.ndarray) -> np.ndarray:
        """Products of int8 codes [N, E] with float32 queries [Q, E] → [N, Q]: the queries keep
        their precision."""
        return codes.astype(np.float32) @ (queries * self.step).T + queries @ self.middle


def quantise(
    vectors: np.ndarray, stored: Stored = "int8", ranges: Ranges | None = None
) -> np.ndarray:
    """float32 [N, E] → int8 [N, E] within `ranges` (None: those of the vectors themselves), or with
    `binary` their signs, uint8 [N, E / 8 rounded up], the first in the highest bit.

    Raises ValueError for another kind.
    """
    if stored == "binary":
        return np.packbits(np.asarray(vectors) > 0, axis=-1)
    if stored != "int8":
        raise ValueError(f"stored={stored!r}: give int8 or binary")
    return (ranges or Ranges.of(vectors)).codes(vectors)


def signs_apart(bits: np.ndarray, query: np.ndarray) -> np.ndarray:
    """In how many signs each of `bits` uint8 [N, B] differs from `query` uint8 [B]: int64 [N]."""
    return np.bitwise_count(bits ^ query).sum(axis=-1, dtype=np.int64)
