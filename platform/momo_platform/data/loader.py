"""Batches by step, read ahead in a thread. The only state is the step."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from momo_platform.data.order import SampleOrder, sample_seeds
from momo_platform.data.shards import ShardDataset

Transform = Callable[[pa.Table, np.ndarray], dict[str, np.ndarray]]


class Loader:
    """This rank's slice of each global batch.

    Step `s` holds positions [s·G, (s+1)·G) of the endless order, G = `global_batch_size`; the
    union over ranks is the same for any number of workers.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        transform: Transform,
        *,
        global_batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        prefetch: int = 2,
    ) -> None:
        if global_batch_size % world_size:
            raise ValueError(
                f"global batch {global_batch_size} must be a multiple of {world_size} workers"
            )
        self._dataset, self._transform, self._seed = dataset, transform, seed
        self._order = SampleOrder(len(dataset), dataset.row_group, seed)
        self._global, self._local = global_batch_size, global_batch_size // world_size
        self._rank, self._prefetch = rank, prefetch
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.seconds_waiting = 0.0

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """The batch of a step: a pure function of (seed, step) and this rank's place."""
        start = step * self._global + self._rank * self._local
        epochs, rows = self._order.rows_at(start, start + self._local)
        seeds = sample_seeds(self._seed, epochs, rows)
        return self._transform(self._dataset.read(rows), seeds)

    def iterate(self, start: int) -> Iterator[dict[str, np.ndarray]]:
        """Batches from step `start` on, without end; errors of the reading thread surface here."""
        if self._stop.is_set():
            raise ValueError("the loader is closed: make a new one")
        ready: queue.Queue[Any] = queue.Queue(maxsize=max(1, self._prefetch))

        def put(item: Any) -> None:
            while not self._stop.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    return
                except queue.Full:
                    continue

        def read_ahead() -> None:
            step = start
            try:
                while not self._stop.is_set():
                    put(self.batch(step))
                    step += 1
            except BaseException as error:  # noqa: BLE001 - raised again by the consumer
                put(error)

        self._thread = threading.Thread(target=read_ahead, daemon=True, name="loader")
        self._thread.start()
        while True:
            waiting = time.perf_counter()
            while True:
                try:
                    item = ready.get(timeout=0.5)
                    break
                except queue.Empty:
                    if self._stop.is_set():
                        raise ValueError("the loader was closed while it was read") from None
            self.seconds_waiting += time.perf_counter() - waiting
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """Stop reading ahead."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
