"""Sample order and randomness as pure functions of (seed, epoch, position).

A global batch is dealt to *lanes*, and a source's rows of an epoch are cut into one stretch for
each lane. So a rank, which has whole lanes, reads its own stretches and nothing of the others'.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from momo_platform.data.cycle import Cycle
from momo_platform.data.row_groups import SINGLE, SourceRows

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


LANES = 64
WINDOW = 4  # row groups whose rows are shuffled with one another


def lanes_of(global_batch: int) -> int:
    """The largest divisor of the global batch up to LANES."""
    return next(n for n in range(min(LANES, global_batch), 0, -1) if global_batch % n == 0)


def _generator(
    seed: int, source: int, epoch: int, lane: int = -1, window: int = 0
) -> np.random.Generator:
    counter = [0, window, (source << 16) + lane + 1, epoch]
    return np.random.Generator(np.random.Philox(key=[seed & (2**64 - 1), 0], counter=counter))


def _dealt(count: np.ndarray, lane: np.ndarray, lanes: int) -> np.ndarray:
    """How many of the first `count` rows go to lanes before `lane`, dealt in turn."""
    return count // lanes * lane + np.minimum(count % lanes, lane)


class SampleOrder:
    """The endless order of rows of several sources, each row once an epoch of its source.

    Row groups are permuted over the whole source, and each lane's stretch of them is shuffled in
    windows of WINDOW row groups. The time to any position does not depend on the number of rows.
    Memory is 8 bytes a row group for each of a source's two latest epochs. Safe in threads.
    """

    def __init__(self, sources: Sequence[SourceRows], global_batch: int, seed: int) -> None:
        self._sources = [source for source in sources if source.weight > 0 and source.rows]
        if not self._sources:
            raise ValueError("a corpus of no rows has no order")
        self._global, self._seed, self.lanes = global_batch, seed, lanes_of(global_batch)
        sizes = [source.weight * source.rows for source in self._sources]
        self.cycle = Cycle(sizes, self.lanes)
        self._rows = np.array([source.rows for source in self._sources])
        self._windows: OrderedDict[tuple[int, ...], np.ndarray] = OrderedDict()
        self._epochs: dict[int, OrderedDict[int, tuple[np.ndarray, np.ndarray | None]]] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_lock": None, "_epochs": {}, "_windows": OrderedDict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"_lock": threading.Lock()})

    def rows_at(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Epochs and row numbers, int64 [stop - start], of positions start … stop."""
        step, place = np.divmod(np.arange(start, stop), self._global)
        a_lane = self._global // self.lanes
        lane = place // a_lane
        source, taken = self.cycle.at(lane, step * a_lane + place % a_lane)
        rows, dealt = self._rows[source], taken * self.lanes + lane
        epoch = dealt // rows
        begun, ended = epoch * rows, (epoch + 1) * rows
        inside = taken + (lane - begun) // self.lanes  # of the lane's stretch in this epoch
        first = _dealt(ended, lane, self.lanes) - _dealt(begun, lane, self.lanes)
        after = _dealt(ended, lane + 1, self.lanes) - _dealt(begun, lane + 1, self.lanes)
        numbers = np.empty(stop - start, dtype=np.int64)
        with self._lock:
            for one in np.unique(source):
                mine = np.flatnonzero(source == one)
                places = self._shuffled(
                    int(one), *(a[mine] for a in (epoch, lane, inside, after - first))
                )
                numbers[mine] = self._numbers(int(one), epoch[mine], first[mine] + places)
        return epoch, numbers

    def _shuffled(
        self, one: int, epoch: np.ndarray, lane: np.ndarray, inside: np.ndarray, rows: np.ndarray
    ) -> np.ndarray:
        """Places in the lane's stretch, shuffled in their windows; those of lanes begin at
        different places, so that not all lanes turn to the next at once."""
        source = self._sources[one]
        if source.single:
            return inside
        size = WINDOW * source.row_group
        shift = lane * size // self.lanes
        window = (inside + shift) // size
        begin = np.maximum(window * size - shift, 0)
        length = np.minimum((window + 1) * size - shift, rows) - begin
        order = np.lexsort((window, epoch, lane))
        keys = np.stack([epoch, lane, window, length], axis=1)[order]
        new = np.append(True, (keys[1:] != keys[:-1]).any(axis=1))
        shuffles = [self._window((one, *key), size) for *key, size in keys[new].tolist()]
        starts = np.cumsum([0, *map(len, shuffles[:-1])])
        places = np.empty(len(inside), dtype=np.int64)
        places[order] = starts[np.cumsum(new) - 1]
        return begin + np.concatenate(shuffles)[places + inside - begin]

    def _window(self, key: tuple[int, ...], length: int) -> np.ndarray:
        found = self._windows.get(key)
        if found is None:
            found = _generator(self._seed, *key).permutation(length).astype(np.uint16)
            self._windows[key] = found
            if len(self._windows) > 3 * self.lanes * len(self._sources):
                self._windows.popitem(last=False)
        else:
            self._windows.move_to_end(key)
        return found

    def _numbers(self, one: int, epoch: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Row numbers of places in the epochs' permuted row groups."""
        source, result = self._sources[one], np.empty(len(places), dtype=np.int64)
        for number in np.unique(epoch):
            mine = epoch == number
            groups, ends = self._epoch(one, int(number))
            if ends is None:
                result[mine] = source.numbers(groups[places[mine]])
                continue
            at = np.searchsorted(ends, places[mine].astype(ends.dtype), "right")  # else it is cast
            begins = np.where(at > 0, ends[at - 1], 0).astype(np.int64)
            result[mine] = source.numbers(groups[at], places[mine] - begins)
        return result

    def _epoch(self, one: int, epoch: int) -> tuple[np.ndarray, np.ndarray | None]:
        """A source's row groups in an epoch's order, and the places where they end."""
        known = self._epochs.setdefault(one, OrderedDict())
        if epoch not in known:
            source = self._sources[one]
            kind = np.uint32 if source.rows < 2**32 else np.uint64
            units = source.rows if source.single else source.groups
            groups = _generator(self._seed, one, epoch).permutation(units).astype(np.uint32)
            ends = None if source.single else np.cumsum(source.sizes()[groups], dtype=kind)
            known[epoch] = groups, ends
            # A source of a few rows is in many epochs at once.
            if len(known) > (max(2, SINGLE // units) if source.single else 2):
                known.popitem(last=False)
        known.move_to_end(epoch)
        return known[epoch]
