"""The rows that a run is measured on while it trains: fixed rows in fixed batches, fixed masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from momo_platform.data.loader import Dataset, Transform
from momo_platform.data.order import sample_seeds
from momo_platform.data.share import rows_of_ranks, share

ROWS_OF_RANKS = "rows_of_ranks"
"""A fact beside a batch's tensors: how many of its rows each rank has, or one number where every
rank has all of them."""
_SEED = 0  # of masks and of captions: the same in every run, so that runs can be compared


class HeldOutRows:
    """Rows of the split `valid`. `unit`: rows that stay on one rank.

    `transform` makes a batch of arrays from rows and their seeds, as for training. The ranks share
    each batch; where it has fewer units than there are ranks, each of them gets all of it.
    """

    def __init__(
        self,
        dataset: Dataset,
        transform: Transform,
        *,
        rank: int = 0,
        world_size: int = 1,
        unit: int = 1,
    ) -> None:
        self._dataset, self._transform = dataset, transform
        self._rank, self._world, self.unit = rank, world_size, unit

    def __len__(self) -> int:
        return len(self._dataset)

    def batches(self, count: int, size: int) -> Iterator[dict[str, Any]]:
        """This rank's part of `count` batches of `size` rows, the same ones every time."""
        for start in range(0, count * size, size):
            rows = np.arange(start, start + size, dtype=np.int64)
            counts: tuple[int, ...] = (size,)
            if -(-size // self.unit) >= self._world:
                counts = rows_of_ranks(size, self._world, self.unit)
                part = share(size, self._rank, self._world, self.unit)
                rows = rows[part.start : part.stop]
            seeds = sample_seeds(_SEED, np.zeros(len(rows), dtype=np.int64), rows)
            yield self._transform(self._dataset.read(rows), seeds) | {ROWS_OF_RANKS: counts}
