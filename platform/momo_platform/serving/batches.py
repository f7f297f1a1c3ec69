"""Batches that grow with the load.

Ray Serve's `@serve.batch` (2.60) closes a batch when `batch_wait_timeout_s` has passed, also while
the one before it is still running: under load the batches that wait hold what came within
milliseconds each, and the model runs them one by one (measured: 2.1 texts a batch at 32 in flight).
Here a batch is closed when the model is free for it.

Callers who ask again once they are answered come in one lump that way: all are read and answered
while the model has nothing to do, then wait while it works. Where the model is quick, so that
reading and answering take as long as its work, a batch leaves half of them for the next one.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

_QUICK = 0.001
"""Seconds of an item; about twice what reading and answering one takes."""
_LEAST = 8
"""Items of a batch that is not made smaller: each costs a call of the model."""
Work = TypeVar("Work")
Result = TypeVar("Result")


class Batches(Generic[Work, Result]):
    """Calls `run` with as many waiting works as have `size` items together, one batch at a time.

    When nothing runs, a work waits `wait` seconds for others. A work whose caller has left before
    its batch is closed is left out. Belongs to one event loop.
    """

    def __init__(
        self,
        run: Callable[[list[Work]], Awaitable[list[Result]]],
        items: Callable[[Work], int],
        size: int,
        wait: float,
    ) -> None:
        self._run, self._items, self._size, self._wait = run, items, size, wait
        self._waiting: deque[tuple[Work, asyncio.Future[Result]]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._inside, self._peaks = 0, (0, 0)
        """Items that wait or run; the most of them since the last batch was closed, and before."""
        self._item_seconds = _QUICK
        """The time that an item of the last larger batch took."""

    async def __call__(self, work: Work) -> Result:
        """The work's own result. Raises what `run` raised for its batch."""
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        self._count(self._items(work))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work_off())
        try:
            return await done
        finally:
            self._count(-self._items(work))

    def _count(self, items: int) -> None:
        self._inside += items
        self._peaks = max(self._peaks[0], self._inside), self._peaks[1]

    async def _work_off(self) -> None:
        await asyncio.sleep(self._wait)
        while batch := self._next():
            begun = time.perf_counter()
            try:
                results = await self._run([work for work, _ in batch])
                for (_, done), result in zip(batch, results, strict=True):
                    if not done.done():
                        done.set_result(result)
            except Exception as error:  # noqa: BLE001 - whoever waits gets it
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
            items = sum(self._items(work) for work, _ in batch)
            if items >= _LEAST:
                self._item_seconds = (time.perf_counter() - begun) / items

    def _most(self) -> int:
        """Items of the next batch: all, or half of those whose callers are here at once."""
        half = -(-max(self._peaks) // 2)
        self._peaks = self._inside, self._peaks[0]
        return self._size if self._item_seconds >= _QUICK else min(self._size, max(_LEAST, half))

    def _next(self) -> list[tuple[Work, asyncio.Future[Result]]]:
        batch: list[tuple[Work, asyncio.Future[Result]]] = []
        total, most = 0, self._most()
        while self._waiting:
            work, done = self._waiting[0]
            if not done.done():
                total += self._items(work)
                if batch and total > most:
                    break
                batch.append((work, done))
            self._waiting.popleft()
        return batch
