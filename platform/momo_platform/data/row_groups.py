"""How a source's rows lie in row groups, and which of them are left out. Nothing by row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SINGLE = 16_384
"""A source of at most so many rows is shuffled row by row, not by row groups."""


class SourceRows:
    """A source's part of an index: shards of `shard_rows` rows each, in row groups of `row_group`
    rows but for each shard's last one, numbered from `first` on.

    `left_out`: row numbers, int64 and sorted, that are not read; those of other sources may be
    among them. `rows` is how many others there are between `first` and `end`. `weight`: how often
    each comes in an epoch.
    """

    def __init__(
        self,
        name: str,
        first: int,
        shard_rows: Sequence[int],
        row_group: int,
        weight: float = 1.0,
        left_out: np.ndarray | None = None,
    ) -> None:
        self.name, self.weight, self.row_group = name, weight, row_group
        rows = np.asarray(shard_rows, dtype=np.int64)
        self._first_row = first + np.cumsum(rows) - rows
        groups = -(-rows // row_group)
        self._first_group = np.cumsum(groups) - groups
        self._in_last = rows - (groups - 1) * row_group
        self.groups = int(groups.sum())
        self.first, self.end = first, first + int(rows.sum())
        left = np.zeros(0, dtype=np.int64) if left_out is None else left_out
        self._left = left[slice(*np.searchsorted(left, [first, self.end]))]
        self._kept_before = self._left - np.arange(len(self._left))
        self.rows = self.end - first - len(self._left)
        self.single = self.rows <= SINGLE

    def _begin(self, groups: np.ndarray) -> np.ndarray:
        """Numbers of the groups' first rows."""
        shard = np.searchsorted(self._first_group, groups, "right") - 1
        return self._first_row[shard] + (groups - self._first_group[shard]) * self.row_group

    def sizes(self) -> np.ndarray:
        """Rows of each row group that are not left out, int64 [groups]."""
        sizes = np.full(self.groups, self.row_group)
        sizes[np.append(self._first_group[1:], self.groups) - 1] = self._in_last
        if len(self._left):
            shard = np.searchsorted(self._first_row, self._left, "right") - 1
            group = (self._left - self._first_row[shard]) // self.row_group
            sizes -= np.bincount(self._first_group[shard] + group, minlength=self.groups)
        return sizes

    def numbers(self, groups: np.ndarray, inside: np.ndarray | None = None) -> np.ndarray:
        """Row numbers of places among the kept rows of row groups; without `inside`, `groups` are
        places among all kept rows."""
        kept = self.first + groups.astype(np.int64)
        if inside is not None:
            begin = self._begin(groups.astype(np.int64))
            kept = begin - np.searchsorted(self._left, begin) + inside
        return kept + np.searchsorted(self._kept_before, kept, "right")
