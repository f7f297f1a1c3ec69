"""Whole batches made in processes, by torch's DataLoader. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

MakeBatch = Callable[[int], dict[str, Any]]


def _tensor(value: Any) -> Any:
    """An array travels through shared memory as a tensor; what is none is pickled."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    return value


class _Steps(IterableDataset[dict[str, Any]]):
    """Process k of n makes steps start + k, start + k + n, …; DataLoader takes turns."""

    def __init__(self, make_batch: MakeBatch, start: int) -> None:
        self._make_batch, self._start = make_batch, start

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        step, stride = self._start, 1
        if info is not None:
            step, stride = step + info.id, info.num_workers
        while True:
            batch = self._make_batch(step)
            yield {name: _tensor(value) for name, value in batch.items()}
            step += stride


def read_steps(
    make_batch: MakeBatch, start: int, processes: int, prefetch: int
) -> Iterator[dict[str, Any]]:
    """Batches of steps `start`, `start` + 1, … in order; errors of a process surface here."""
    loader = DataLoader(
        _Steps(make_batch, start),
        batch_size=None,
        num_workers=processes,
        prefetch_factor=max(1, -(-prefetch // processes)),
        multiprocessing_context="fork",  # a fresh process would import torch for 7 s
    )
    for batch in loader:
        yield {n: v.numpy() if isinstance(v, torch.Tensor) else v for n, v in batch.items()}
