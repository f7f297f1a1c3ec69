"""A replica: it reads requests, gathers them in batches for the model, and bounds their time.

The model runs in a process of its own; a thread waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from momo_platform.cores import usable_cores
from momo_platform.serving import metrics, runtime
from momo_platform.serving.batches import Batches
from momo_platform.serving.config import ServingConfig
from momo_platform.serving.encoder import InputReader, Loaders, joined
from momo_platform.serving.errors import ServiceRefusal
from momo_platform.serving.items import Item, Sent, read_items
from momo_platform.serving.state import State, load_state
from momo_platform.serving.tracing import Tracer

_SHORT = 4096
"""Characters of a request's texts that are read at once: a thread takes longer."""
_BATCHES_AHEAD = 2
"""Of one request, that wait for the model at once: others come between them."""
Result = TypeVar("Result")


class Replica:
    """What the routes ask. Has no model before `load`."""

    def __init__(self, loaders: Loaders, config: ServingConfig) -> None:
        self.loaders, self.config = loaders, config
        runtime.give_large_memory_back()
        self.queued = 0
        self.tracer = Tracer.from_environment()
        self._state: State | None = None
        self._model_thread = ThreadPoolExecutor(1, "model")
        self._threads = ThreadPoolExecutor(4, "decode")

    async def load(self, chosen: dict[str, str], device: str) -> None:
        """`model`, `index` and `classifier`: load them beside what serves, then replace it at once.
        Raises what `load_state` does."""
        config = self.config
        threads = config.threads or max(1, int(config.cpus or usable_cores()))
        state = await self.threaded(
            load_state,
            *(self.loaders, chosen["model"], chosen.get("index", "")),
            *(threads, device, config.precision, chosen.get("classifier", "")),
        )
        self._state = self._with_batches(state)

    def _with_batches(self, state: State) -> State:
        encode = {"text": state.encoder.texts, "image": state.encoder.pictures}
        if state.classifier is not None:
            encode["classified"] = state.classify
        batches = {kind: self._batches(kind, function) for kind, function in encode.items()}
        return replace(state, batches=batches)

    def _batches(
        self, kind: str, encode: Callable[[list[Any]], np.ndarray]
    ) -> Batches[Sequence[Any], np.ndarray]:
        """Batches of parts of requests, which `encode` gives rows [N, ...] for."""

        async def run(parts: list[Sequence[Any]]) -> list[np.ndarray]:
            items = [item for part in parts for item in part]
            runtime.BATCH.labels(kind).observe(len(items))
            rows = await self.on_model(encode, items)
            runtime.ITEMS.labels(kind).inc(len(items))
            return np.split(rows, np.cumsum([len(part) for part in parts])[:-1])

        return Batches(run, len, self.config.batch_size, self.config.batch_wait_ms / 1000)

    @property
    def state(self) -> State:
        if self._state is None:
            raise ServiceRefusal(503, "no model is loaded yet")
        return self._state

    def state_for(self, model: str | None) -> State:
        """Raises 404 when a request names another model."""
        state = self.state
        if model is not None and model != state.encoder.name:
            told = f"this endpoint serves {state.encoder.name} only"
            raise ServiceRefusal(404, told, "model", "model_not_found")
        return state

    async def threaded(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """In a thread that decodes."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *arguments)

    async def on_model(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """In the thread that waits for the model."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._model_thread, function, *arguments)

    async def read(
        self,
        reader: InputReader,
        sent: Sequence[Sent],
        wanted: tuple[bool, bool] | None = None,
        truncate: bool = True,
    ) -> list[Item]:
        """`read_items` of all that a request has, by the model's reader or a classifier's; in a
        thread where there are pictures or long texts."""
        arguments = (sent, self.config.limits, reader, wanted, truncate)
        characters = sum(len(one.text or "") for one in sent)
        with self.tracer.span("read", items=len(sent)):
            if characters <= _SHORT and all(one.image is None for one in sent):
                return read_items(*arguments)
            return await self.threaded(read_items, *arguments)

    async def embedded(
        self, state: State, sent: Sequence[Sent], truncate: bool = True
    ) -> tuple[list[Item], np.ndarray]:
        """What a request sent, read, and its vectors float32 [N, dimensions]."""
        items = await self.read(state.reader, sent, None, truncate)
        return items, await self.embed(state, items)

    async def embed(self, state: State, items: Sequence[Item]) -> np.ndarray:
        """Vectors float32 [N, dimensions]."""
        texts = [item.text for item in items if item.text is not None]
        pictures = [item.picture for item in items if item.picture is not None]
        if not pictures:
            return np.stack(await self._encoded(state, "text", texts))
        parts = await asyncio.gather(
            self._encoded(state, "text", texts), self._encoded(state, "image", pictures)
        )
        of_texts, of_pictures = map(iter, parts)
        rows = []
        for item in items:
            if item.text is not None and item.picture is not None:
                rows.append(joined(next(of_texts), next(of_pictures)))
            else:
                rows.append(next(of_texts if item.text is not None else of_pictures))
        return np.stack(rows)

    async def classify(self, state: State, items: Sequence[Item]) -> np.ndarray:
        """Probabilities float32 [N, classes] by the saved classifier."""
        return np.stack(await self._encoded(state, "classified", items))

    async def _encoded(self, state: State, kind: str, items: Sequence[Any]) -> list[np.ndarray]:
        """A row of each. A request may have more items than a batch: some batches of it wait for
        the model at once, so that others don't wait for all of it."""
        if not items:
            return []
        size, ahead = self.config.batch_size, asyncio.Semaphore(_BATCHES_AHEAD)

        async def part(start: int) -> np.ndarray:
            async with ahead:
                return await state.batches[kind](items[start : start + size])

        with self.tracer.span("encode", kind=kind, items=len(items)):
            if len(items) <= size:
                return list(await state.batches[kind](items))
            parts = await asyncio.gather(*(part(n) for n in range(0, len(items), size)))
        return [row for rows in parts for row in rows]

    async def exposition(self) -> tuple[str, str]:
        """This replica's name, and its counters as Prometheus reads them."""
        state = self.state
        models = [one for one in (state.encoder, state.classifier) if one is not None]
        runtime.MODEL_BYTES.set(sum(one.resident_bytes for one in models))
        runtime.DEVICE_BYTES.set(sum(one.device_bytes for one in models))
        return self.name, metrics.of_this_process()

    @property
    def name(self) -> str:
        """Among the replicas."""
        return "alone"

    async def expositions(self) -> Mapping[str, str]:
        """Counters of all replicas, by name."""
        return dict([await self.exposition()])

    async def in_time(self, work: Coroutine[Any, Any, Result], items: int) -> Result:
        """The result of a request's work on so many items. Raises 503 when too much waits already,
        504 when it takes too long."""
        limits = self.config.limits
        if self.queued + items > limits.queued_items and self.queued:
            work.close()
            raise ServiceRefusal(503, "too many requests wait here already: try again later")
        self.queued += items
        runtime.QUEUED.set(self.queued)
        try:
            async with asyncio.timeout(limits.seconds):
                return await work
        except TimeoutError:
            told = f"not done within {limits.seconds:g} s: send fewer items at once"
            raise ServiceRefusal(504, told) from None
        finally:
            self.queued -= items
            runtime.QUEUED.set(self.queued)
