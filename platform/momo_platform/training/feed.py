"""From the loaders to the update: tensors, pinned and copied, a step ahead on GPUs.

On CUDA a thread gets the next step's batches ready while this step computes: on a stream of its
own, which the update's stream waits for without the host. Elsewhere it happens in `next`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Batch = dict[str, Any]
"""Name → tensor; what is no tensor are facts for the host, and never copied."""


def to_tensors(batch: Mapping[str, Any]) -> Batch:
    """Arrays as tensors that share their memory where they can."""
    return {
        name: torch.from_numpy(np.ascontiguousarray(value))
        if isinstance(value, np.ndarray)
        else value
        for name, value in batch.items()
    }


def to_device(batch: Mapping[str, Any], device: torch.device) -> Batch:
    """Tensors copied, without waiting for those that are pinned; the rest as it is."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for name, value in batch.items()
    }


@dataclass(frozen=True)
class Fed:
    """One step's batches by modality: as they were on the host, and on the device."""

    host: dict[str, Batch]
    device: dict[str, Batch]
    ready: Any = None  # a CUDA event, where they come by a stream of their own


class Feed:
    """Steps `first` to `last` - 1, in order.

    `modalities_of(step)` names the loaders that a step takes from; `used` says how many batches of
    each were used before. What a loader holds `resident` is part of each of its batches on the
    device. A task's optional methods: `on_host(modality, batch)` prepares a batch on the CPU before
    it is copied, `on_device(modality, batch)` after it was; both return the new batch.
    `ahead` None: where the device is CUDA.
    """

    def __init__(
        self,
        task: nn.Module,
        loaders: Mapping[str, Any],
        device: torch.device,
        modalities_of: Callable[[int], Sequence[str]],
        used: Mapping[str, int],
        first: int,
        last: int,
        *,
        report: Callable[[str], None] = lambda _: None,
        ahead: bool | None = None,
    ) -> None:
        self._device, self._modalities_of = device, modalities_of
        self._on_host = getattr(task, "on_host", None)
        self._on_device = getattr(task, "on_device", None)
        self._resident = {n: _resident(loader, device, report) for n, loader in loaders.items()}
        self._iterators = {n: loader.iterate(used[n]) for n, loader in loaders.items()}
        self._step, self._last = first, last
        cuda = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if cuda else None
        if self._stream is not None:
            self._stream.wait_stream(
                torch.cuda.current_stream(device)
            )  # resident corpora lie there
        ahead = cuda if ahead is None else ahead
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="feed") if ahead else None
        self._coming: Future[Fed] | None = None
        self._closed = False

    def next(self) -> Fed:
        """The next step's batches; errors of the loaders, the task and the thread surface here.

        Work given to the device's current stream after this call finds them ready.
        """
        if self._closed:
            raise ValueError("the feed is closed: make a new one")
        step = self._step
        if self._pool is None:
            fed = self._make(step)
        else:
            coming = self._coming or self._pool.submit(self._make, step)
            self._coming = None
            fed = coming.result()
            if step + 1 < self._last:
                self._coming = self._pool.submit(self._make, step + 1)
        self._step += 1
        if fed.ready is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(fed.ready)
            for batch in fed.device.values():
                for value in batch.values():
                    if isinstance(value, Tensor):  # of the other stream's memory: not to be reused
                        value.record_stream(stream)  # before this one is done with it
        return fed

    def close(self) -> None:
        """End the thread, after the batch that it is making."""
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _make(self, step: int) -> Fed:
        host = {name: self._prepared(name) for name in self._modalities_of(step)}
        if self._stream is None:
            return Fed(host, {name: self._copied(name, batch) for name, batch in host.items()})
        # A thread starts without the device and the stream of the one that made it.
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            device = {
                name: self._copied(name, {k: _pinned(v) for k, v in batch.items()})
                for name, batch in host.items()
            }
            return Fed(host, device, self._stream.record_event())

    def _prepared(self, modality: str) -> Batch:
        batch = to_tensors(next(self._iterators[modality]))
        return batch if self._on_host is None else self._on_host(modality, batch)

    def _copied(self, modality: str, batch: Batch) -> Batch:
        batch = to_device(batch, self._device) | self._resident[modality]
        return batch if self._on_device is None else self._on_device(modality, batch)


def _resident(loader: Any, device: torch.device, report: Callable[[str], None]) -> Batch:
    load = getattr(loader, "resident", None)
    return {} if load is None else load(device, report)


def _pinned(value: Any) -> Any:
    return value.pin_memory() if isinstance(value, Tensor) else value
