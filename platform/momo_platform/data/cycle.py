"""Which source comes when: the shares exactly, in each cycle of each lane and of all together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_SLOTS = 2**16  # a share is off by less than a 65,536th
_GOLDEN = (5**0.5 - 1) / 2


class Cycle:
    """`slots` slots, `counts[i]` of them source i's, by its share of `sizes`.

    The lanes' first `turns` = `slots` / lanes places are all slots in an even sequence, row by row:
    each batch has the shares to within a row or two. Lane l goes through the slots from the l-th
    block of `turns` slots on, so that `slots` places of a lane have the counts too, and the lanes
    together have them in `turns` places that begin at a multiple of `turns`. Each row of lanes is
    turned by another amount: a lane has the sources evenly, not one after the other.
    """

    def __init__(self, sizes: Sequence[float], lanes: int) -> None:
        self._lanes, self.turns = lanes, -(-max(_SLOTS, 2 * len(sizes)) // lanes)
        self.slots = lanes * self.turns
        self.counts = _counts(np.asarray(sizes, dtype=np.float64), self.slots)
        sources = np.repeat(np.arange(len(sizes)), self.counts)
        number = np.arange(self.slots) - np.repeat(
            np.cumsum(self.counts) - self.counts, self.counts
        )
        even = sources[np.lexsort((sources, (number + 0.5) / self.counts[sources]))]
        row, lane = np.arange(self.turns)[:, None], np.arange(lanes)[None]
        turned = (lane + (row * _GOLDEN % 1 * lanes).astype(np.int64)) % lanes
        self._source = even[row * lanes + turned].T.reshape(-1)
        # Of each slot: how many slots before it are its source's.
        by_source = np.argsort(self._source, kind="stable")
        self._before = np.empty(self.slots, dtype=np.int64)
        self._before[by_source] = number
        of_lanes = np.zeros((lanes, len(sizes)), dtype=np.int64)
        np.add.at(of_lanes, (np.arange(self.slots) // self.turns, self._source), 1)
        self._begins = np.cumsum(of_lanes, axis=0) - of_lanes

    def at(self, lane: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The source at each place of each lane, and how many rows of it the lane had before."""
        full, slot = np.divmod(lane * self.turns + place, self.slots)
        source = self._source[slot]
        before = full * self.counts[source] + self._before[slot] - self._begins[lane, source]
        return source, before


def _counts(sizes: np.ndarray, slots: int) -> np.ndarray:
    """Whole numbers by largest remainder whose sum is `slots`; at least 1 for each source."""
    exact = sizes / sizes.sum() * slots
    counts = np.maximum(np.floor(exact).astype(np.int64), 1)
    while (missing := slots - int(counts.sum())) != 0:
        order = np.argsort(counts - exact, kind="stable")
        if missing > 0:
            counts[order[:missing]] += 1
        else:
            able = order[::-1][counts[order[::-1]] > 1]
            counts[able[:-missing]] -= 1
    return counts
