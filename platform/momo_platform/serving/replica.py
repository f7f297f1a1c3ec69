"""A replica: it reads requests, gathers them in batches for the model, and bounds their time.

The model runs in a process of its own; a thread waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from momo_platform.cores import usable_cores
from momo_platform.serving import runtime
from momo_platform.serving.batches import Batches
from momo_platform.serving.config import ServingConfig
from momo_platform.serving.encoder import InputReader, Loaders, joined
from momo_platform.serving.errors import ServiceRefusal
from momo_platform.serving.items import Given, Item, Sent, read_items, sent_items
from momo_platform.serving.state import State, load_state

_SHORT = 4096
"""Characters of a request's texts that are read at once: a thread takes longer."""
Result = TypeVar("Result")


class Replica:
    """What the routes ask. Has no model before `load`."""

    def __init__(self, loaders: Loaders, config: ServingConfig) -> None:
        self.loaders, self.config = loaders, config
        runtime.give_large_memory_back()
        self.queued = 0
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
            runtime.ITEMS.labels(kind).inc(len(items))
            rows = await self.on_model(encode, items)
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
            raise ServiceRefusal(404, f"this endpoint serves {state.encoder.name} only", "model")
        return state

    async def threaded(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """In a thread that decodes."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *arguments)

    async def on_model(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """In the thread that waits for the model."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._model_thread, function, *arguments)

    async def read(self, reader: InputReader, given: Given, name: str = "input") -> list[Item]:
        """Items of a validated request's field `name`. `reader`: the model's, or a classifier's."""
        return await self.read_sent(reader, sent_items(given, self.config.limits, name))

    async def read_sent(
        self, reader: InputReader, sent: Sequence[Sent], wanted: tuple[bool, bool] | None = None
    ) -> list[Item]:
        """`read_items`, in a thread where there are pictures or long texts."""
        arguments = (sent, self.config.limits, reader, wanted)
        characters = sum(len(one.text or "") for one in sent)
        if characters <= _SHORT and all(one.image is None for one in sent):
            return read_items(*arguments)
        return await self.threaded(read_items, *arguments)

    async def read_and_embed(
        self, state: State, given: Given, name: str = "input"
    ) -> tuple[np.ndarray, int]:
        """Vectors [N, dimensions] and how many tokens the texts have."""
        return await self.embed(state, await self.read(state.reader, given, name))

    async def embed(self, state: State, items: Sequence[Item]) -> tuple[np.ndarray, int]:
        """Vectors [N, dimensions] and how many tokens the texts have."""
        texts = [item.text for item in items if item.text is not None]
        pictures = [item.picture for item in items if item.picture is not None]
        works = [*self._works(state, "text", texts), *self._works(state, "image", pictures)]
        encoded = [row for part in await asyncio.gather(*works) for row in part]
        of_texts, of_pictures = iter(encoded[: len(texts)]), iter(encoded[len(texts) :])
        rows = []
        for item in items:
            if item.text is not None and item.picture is not None:
                rows.append(joined(next(of_texts), next(of_pictures)))
            else:
                rows.append(next(of_texts if item.text is not None else of_pictures))
        return np.stack(rows), _tokens_of(items)

    async def read_and_classify(self, state: State, given: Given) -> tuple[np.ndarray, int]:
        """Probabilities [N, classes] and how many tokens the texts have."""
        reader = state.classifier_reader
        assert reader is not None
        sent = sent_items(given, self.config.limits)
        wanted = (reader.takes_texts, reader.takes_pictures)
        items = await self.read_sent(reader, sent, wanted)
        parts = await asyncio.gather(*self._works(state, "classified", items))
        return np.concatenate(parts), _tokens_of(items)

    def _works(self, state: State, kind: str, parts: Sequence[Any]) -> list[Awaitable[np.ndarray]]:
        """A request may have more items than a batch."""
        size = self.config.batch_size
        starts = range(0, len(parts), size)
        return [state.batches[kind](parts[start : start + size]) for start in starts]

    async def in_time(self, work: Coroutine[Any, Any, Result], items: int) -> Result:
        """The work's result. Raises 413 for too many items, 503 when too much waits already,
        504 when it takes too long."""
        limits = self.config.limits
        if items > limits.items:  # before it takes others' place in the queue
            work.close()
            raise ServiceRefusal(
                413, f"input has {items} items, {limits.items} are allowed: send several", "input"
            )
        if self.queued + items > limits.queued_items and self.queued:
            work.close()
            raise ServiceRefusal(503, "too many requests wait here already: try again later")
        self.queued += items
        runtime.QUEUED.set(self.queued)
        try:
            return await asyncio.wait_for(work, limits.seconds)
        except TimeoutError:
            raise ServiceRefusal(504, f"not done within {limits.seconds:g} s") from None
        finally:
            self.queued -= items
            runtime.QUEUED.set(self.queued)


def _tokens_of(items: Sequence[Item]) -> int:
    return sum(len(item.text) for item in items if item.text is not None)
