"""Whole batches made in processes, by torch's DataLoader. Imports torch."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.queues import Queue
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from momo_platform.stages.errors import UserError

MakeBatch = Callable[[int], dict[str, Any]]
logger = logging.getLogger(__name__)


def _tensor(value: Any) -> Any:
    """An array travels through shared memory as a tensor; what is none is pickled."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    return value


def _array(value: Any) -> Any:
    return value.numpy() if isinstance(value, torch.Tensor) else value


@dataclass(frozen=True)
class _Lost:
    """In place of a batch that could not be sent."""

    reason: str


class _SendAnyway:
    """What a reader's queue does with a batch that its thread could not send, for want of room in
    /dev/shm or of a socket's place in TMPDIR: it goes through the pipe, whole. By itself that
    thread only prints the error, and training waits for the batch for ever."""

    def __init__(self) -> None:
        self._told = False

    def __call__(self, queue: Queue[Any], error: Exception, item: tuple[int, Any]) -> None:
        step, batch = item
        if not (isinstance(batch, dict) and any(map(torch.is_tensor, batch.values()))):
            queue.put((step, _Lost(f"{type(error).__name__}: {error}")))
            return
        if not self._told:
            self._told = True
            logger.warning(
                "batches go through a pipe, which is slower than shared memory (%s); a container "
                "gets more of it with --shm-size",
                error,
            )
        queue.put((step, {name: _array(value) for name, value in batch.items()}))


class _Steps(IterableDataset[dict[str, Any]]):
    """Process k of n makes steps start + k, start + k + n, …; DataLoader takes turns."""

    def __init__(self, make_batch: MakeBatch, start: int) -> None:
        self._make_batch, self._start = make_batch, start

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        step, stride = self._start, 1
        if info is not None:
            step, stride = step + info.id, info.num_workers
            # In this process alone, and before the queue's thread starts with the first batch.
            anyway: Any = _SendAnyway()
            setattr(Queue, "_on_queue_feeder_error", lambda *given: anyway(*given))  # noqa: B010
        while True:
            yield {name: _tensor(value) for name, value in self._make_batch(step).items()}
            step += stride


def _end_with_the_first(batches: Any) -> None:
    """A reader that is killed in the middle of a batch takes the others with it, so that its pipe
    ends; waiting for the rest of that batch would have no end while anybody could write it."""
    readers = batches._workers
    batches._worker_result_queue._writer.close()  # ours, which nobody uses

    def watch() -> None:
        wait([reader.sentinel for reader in readers])
        if any(reader.exitcode for reader in readers):
            for reader in readers:
                reader.kill()

    threading.Thread(target=watch, daemon=True, name="reader-watch").start()


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
    _end_with_the_first(batches)
    for batch in batches:
        if isinstance(batch, _Lost):
            raise UserError(
                f"a reader process could not send its batch ({batch.reason}): set "
                "scaling.reader_processes to 0"
            )
        yield {name: _array(value) for name, value in batch.items()}
