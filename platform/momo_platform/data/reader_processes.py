"""Whole batches made in processes, by torch's DataLoader. Imports torch."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from momo_platform.stages.errors import UserError

MakeBatch = Callable[[int], dict[str, Any]]
logger = logging.getLogger(__name__)


class _Sharing:
    """An array travels through /dev/shm as a tensor, or, where there is no room, through a pipe.

    DataLoader itself would find out in a thread that only prints the error, and its reader would
    wait for the batch for ever.
    """

    def __init__(self) -> None:
        self._told = False

    def __call__(self, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        try:
            return torch.from_numpy(np.ascontiguousarray(value)).share_memory_()
        except RuntimeError as error:
            if "shared memory" not in str(error):
                raise
            if not self._told:
                self._told = True
                logger.warning(
                    "/dev/shm has no room for a batch of %d MB: it goes through a pipe, which is "
                    "slower; a container gets more by --shm-size (%s)",
                    value.nbytes // 10**6,
                    error,
                )
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
        share = _Sharing()
        while True:
            yield {name: share(value) for name, value in self._make_batch(step).items()}
            step += stride


def read_steps(
    make_batch: MakeBatch, start: int, processes: int, prefetch: int
) -> Iterator[dict[str, Any]]:
    """Batches of steps `start`, `start` + 1, … in order; errors of a process surface here. Raises
    UserError where /dev/shm has no room at all, not even for the processes' locks."""
    loader = DataLoader(
        _Steps(make_batch, start),
        batch_size=None,
        num_workers=processes,
        prefetch_factor=max(1, -(-prefetch // processes)),
        multiprocessing_context="fork",  # a fresh process would import torch for 7 s
    )
    try:
        batches = iter(loader)
    except OSError as error:
        if error.errno not in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EACCES,
            errno.EROFS,
            errno.ENOENT,
            errno.ENOSYS,
        ):
            raise
        raise UserError(
            f"/dev/shm can't be used ({error.strerror}), which reader processes need: make room "
            "there, give the container more with --shm-size, or set scaling.reader_processes to 0"
        ) from error
    for batch in batches:
        yield {n: v.numpy() if isinstance(v, torch.Tensor) else v for n, v in batch.items()}
