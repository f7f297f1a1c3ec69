"""Which source comes when: the shares exactly, in each cycle of each lane and of all together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_SLOTS, _TURNS = 2**16, 2**12
"""A cycle's slots, so that a share is off by less than a 65,536th; fewer where lanes are few."""
_RAREST, _MOST_SLOTS, _MOST_TURNS = 4, 2**20, 2**14
"""A cycle is longer where the rarest source had fewer slots than so many, up to these bounds. A
source that has less than a millionth of the rows comes more often than asked: once a cycle."""


class Cycle:
    """`slots` slots, `counts[i]` of them source i's, by its share of `sizes`.

    The lanes' first `turns` = `slots` / lanes places are all slots in an even sequence, place by
    place: each batch has source i's share to within 1 + share · (sources - 2) rows, or within one
    where there is one source or two. Lane l goes through the slots from the l-th block of `turns`
    slots on, so that `slots` places of a lane have the counts too, and the
    lanes together have them in `turns` places that begin at a multiple of `turns`. Which lane gets
    which of a place's slots is chosen so that each lane has its sources evenly.
    """

    def __init__(self, sizes: Sequence[float], lanes: int) -> None:
        turns = -(-_SLOTS // lanes)
        turns = max(turns if lanes == 1 else min(turns, _TURNS), -(-2 * len(sizes) // lanes))
        rarest, most = min(sizes) / sum(sizes), _MOST_SLOTS if lanes == 1 else _MOST_TURNS
        while rarest * lanes * turns < _RAREST and 2 * turns <= min(most, _MOST_SLOTS // lanes):
            turns *= 2
        self.turns, self.slots = turns, lanes * turns
        self.counts = _counts(np.asarray(sizes, dtype=np.float64), self.slots)
        sources = np.repeat(np.arange(len(sizes)), self.counts)
        begins = np.cumsum(self.counts) - self.counts
        number = np.arange(self.slots) - np.repeat(begins, self.counts)
        even = sources[np.lexsort((sources, (number + 0.5) / self.counts[sources]))]
        dealt = _dealt_evenly(even.reshape(turns, lanes), self.counts)
        self._source = dealt.T.reshape(-1).astype(np.int32)
        # Of each slot: how many slots before it are its source's.
        self._before = np.empty(self.slots, dtype=np.int32)
        self._before[np.argsort(self._source, kind="stable")] = number
        of_lanes = np.zeros((lanes, len(sizes)), dtype=np.int64)
        np.add.at(of_lanes, (np.arange(self.slots) // turns, self._source), 1)
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


def _dealt_evenly(even: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Each place's slots [turns, lanes] among the lanes: the rarest source first, to whom most of
    it is owed. What is owed is counted in whole numbers, so that all machines agree."""
    turns, lanes = even.shape
    if lanes == 1 or len(counts) == 1:
        return even
    owed = np.arange(lanes)[:, None] * turns * counts % (turns * lanes)
    order = np.argsort(counts, kind="stable")
    result = np.empty_like(even)
    for place in range(turns):
        owed += counts
        wanted, free = np.bincount(even[place], minlength=len(counts)), np.arange(lanes)
        for source in order[wanted[order] > 0]:
            most = np.argsort(-owed[free, source], kind="stable")
            chosen, free = free[most[: wanted[source]]], free[most[wanted[source] :]]
            result[place, chosen] = source
            owed[chosen, source] -= turns * lanes
    return result
