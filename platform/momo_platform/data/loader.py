"""Batches by step, read ahead in a thread or in processes. The only state is the step.

One thread reads as fast as two `DataLoader` processes over files where pictures are small, and
more threads do not help: short calls into decoders wait for the interpreter's lock
(docs/experiments.md). Where decoding limits, give `processes`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import pyarrow as pa

from momo_platform.data.order import SampleOrder, sample_seeds
from momo_platform.data.row_groups import SourceRows
from momo_platform.data.share import share

if TYPE_CHECKING:
    import torch

Ingest = Literal["local", "ray"]
_ROWS_AHEAD, _STEPS_AHEAD = 64, 8  # of a lane, at most
# Values that are no arrays are facts about a batch that stay on the host.
Transform = Callable[[pa.Table, np.ndarray], dict[str, Any]]


class Dataset(Protocol):
    """`ShardDataset` or `ResidentShards`."""

    @property
    def sources(self) -> Sequence[SourceRows]: ...
    def __len__(self) -> int: ...
    def read(self, rows: np.ndarray) -> pa.Table: ...
    def ahead(self, rows: np.ndarray) -> None: ...
    def expect(self, lanes: int, rows_ahead: int, processes: int = 1) -> None: ...
    def close(self) -> None: ...


class Loader:
    """This rank's slice of each global batch.

    Step `s` holds positions [s·G, (s+1)·G) of the endless order, G = `global_batch_size`; the
    union over ranks is the same for any number of workers. `unit`: rows that stay on one rank.
    """

    def __init__(
        self,
        dataset: Dataset,
        transform: Transform,
        *,
        global_batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        prefetch: int = 2,
        processes: int = 0,
        ingest: Ingest = "local",
        unit: int = 1,
    ) -> None:
        self._dataset, self._transform, self._seed = dataset, transform, seed
        self._order = SampleOrder(dataset.sources, global_batch_size, seed)
        self._global = global_batch_size
        self.unit = unit
        self._share = share(global_batch_size, rank, world_size, unit)
        a_lane = global_batch_size // self._order.lanes
        self._ahead = min(_STEPS_AHEAD, -(-_ROWS_AHEAD // a_lane))
        lanes = -(-self._share.stop // a_lane) - self._share.start // a_lane
        readers = max(1, processes)
        dataset.expect(lanes, (self._ahead * readers + 1) * a_lane, readers)
        self._last: int | None = None  # step
        self._coming: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._prefetch, self._processes = max(1, prefetch), processes
        self._ingest = ingest
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False
        self.seconds_waiting = 0.0

    def batch(self, step: int, end: int | None = None) -> dict[str, Any]:
        """The batch of a step: a pure function of (seed, step) and this rank's place. `end`: that
        of the steps that are asked of this process."""
        self._read_ahead(step, end)
        epochs, rows = self._coming.pop(step, None) or self._rows(step)
        seeds = sample_seeds(self._seed, epochs, rows)
        return self._transform(self._dataset.read(rows), seeds)

    def _rows(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        start = step * self._global
        return self._order.rows_at(start + self._share.start, start + self._share.stop)

    def _read_ahead(self, step: int, end: int | None) -> None:
        """Begin to fetch the rows of this step and the coming ones, of which a reader process has
        every n-th, or all up to `end`."""
        before = step if end is not None or self._last is None else self._last
        stride = max(1, step - before)
        self._last = step
        last = step + self._ahead * stride
        wanted = range(step, (last if end is None else min(last, end - 1)) + 1, stride)
        known, coming = self._coming, {}
        for one in wanted:
            if (rows := known.get(one)) is None:
                rows = self._rows(one)
                self._dataset.ahead(rows[1])
            coming[one] = rows
        self._coming = coming  # a new one: another thread may be at the last

    def resident(self, device: torch.device, report: Callable[[str], None]) -> dict[str, Any]:
        """Tensors that lie on the device and belong to every batch; before the first `iterate`."""
        load = getattr(self._dataset, "load", None)
        return {} if load is None else load(device, report)

    def iterate(self, start: int) -> Iterator[dict[str, Any]]:
        """Batches from step `start` on, without end; errors of the readers surface here."""
        if self._closed:
            raise ValueError("the loader is closed: make a new one")
        if self._ingest == "ray":
            source = self._by_ray(start)
        else:
            source = self._by_processes(start) if self._processes else self._by_thread(start)
        while True:
            waiting = time.perf_counter()
            try:
                batch = next(source)
            except (CancelledError, RuntimeError):
                if self._closed:
                    raise ValueError("the loader was closed while it was read") from None
                raise
            self.seconds_waiting += time.perf_counter() - waiting
            yield batch

    def _by_thread(self, start: int) -> Iterator[dict[str, Any]]:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="loader")
        ready = deque(self._pool.submit(self.batch, start + i) for i in range(self._prefetch))
        step = start + self._prefetch
        while True:
            batch = ready.popleft().result()
            ready.append(self._pool.submit(self.batch, step))
            step += 1
            yield batch

    def _by_ray(self, start: int) -> Iterator[dict[str, Any]]:
        from momo_platform.data.ray_ingest import stream_steps

        yield from stream_steps(self.batch, start, self._prefetch)

    def __getstate__(self) -> dict[str, Any]:
        """For the tasks and processes that make batches: without the thread."""
        return self.__dict__ | {"_pool": None, "_last": None, "_coming": {}}

    def _by_processes(self, start: int) -> Iterator[dict[str, Any]]:
        from momo_platform.data.reader_processes import read_steps

        yield from read_steps(self.batch, start, self._processes, self._prefetch)

    def close(self) -> None:
        """Stop reading ahead."""
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._dataset.close()
