"""The endpoint: FastAPI on a Ray Serve deployment that holds the model. Imports Ray."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import ray
from fastapi import FastAPI, File, Form, UploadFile
from fastapi.responses import FileResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic_core import to_json
from ray import serve

from momo_platform.cores import usable_cores
from momo_platform.serving import runtime, schema
from momo_platform.serving.batches import Batches
from momo_platform.serving.config import ServingConfig
from momo_platform.serving.encoder import Loaders, Reader, by_length, joined
from momo_platform.serving.errors import ServiceRefusal
from momo_platform.serving.http import Guard, add_error_handlers
from momo_platform.serving.items import (
    Item,
    check_shapes,
    checked_text,
    items_in,
    read_items,
)
from momo_platform.serving.pictures import Pictures
from momo_platform.serving.state import State, load_state

_PAGE = Path(__file__).with_name("page")
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": schema.ErrorAnswer} for status in (401, 408, 413, 415, 422, 503, 504)
}
api = FastAPI(
    title="MoMo embeddings", version="1", docs_url=None, redoc_url=None, redirect_slashes=False
)
api.add_middleware(Guard)
add_error_handlers(api)


@dataclass(frozen=True)
class _Work:
    """Texts or pictures of one request, with the state that it began with."""

    state: State
    items: list[Any]
    lengths: list[int]


def _endpoint() -> Any:
    return serve.get_replica_context().servable_object


_v1: dict[str, Any] = {"responses": _ERRORS}
_SHORT = 4096
"""Characters of a request's texts that are checked and counted at once: a thread takes longer."""


class _Json(Response):
    """By pydantic's writer, which is many times faster for numbers than the standard library's."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return to_json(content, inf_nan_mode="null")


@api.post("/v1/embeddings", response_model=schema.EmbeddingsAnswer, **_v1)
async def embeddings(request: schema.EmbeddingsRequest) -> Any:
    """Embed texts, pictures and pairs, as OpenAI's endpoint does texts."""
    own = _endpoint()
    state = own.state_for(request.model)
    if request.dimensions not in (None, state.encoder.dimensions):
        raise ServiceRefusal(
            422, f"dimensions: the model's vectors have {state.encoder.dimensions}", "dimensions"
        )
    plain = _plain(request.input)
    vectors, tokens = await own.in_time(own.read_and_embed(state, plain), items_in(plain))
    return _embeddings(state, vectors, tokens, request.encoding_format)


@api.post("/v1/embeddings/upload", response_model=schema.EmbeddingsAnswer, **_v1)
async def upload(
    image: Annotated[list[UploadFile], File(description="Pictures, or the pictures of pairs.")],
    text: Annotated[list[str] | None, Form(description="As many texts, for pairs.")] = None,
    encoding_format: Annotated[str, Form(pattern="^(float|base64)$")] = "float",
) -> Any:
    """The same for files of a form."""
    own = _endpoint()
    limits = own.config.limits
    if text:
        check_shapes(text, limits, "text")
    texts = [checked_text(t, f"text[{i}]", limits) for i, t in enumerate(text or ())]
    if texts and len(texts) != len(image):
        raise ServiceRefusal(422, f"{len(texts)} texts for {len(image)} images", "text")
    if len(image) > limits.items:
        raise ServiceRefusal(413, f"{limits.items} images are allowed", "image")
    raw = [await file.read(limits.picture_bytes + 1) for file in image]
    state = own.state

    async def work() -> tuple[np.ndarray, int]:
        pictures = Pictures(limits, state.reader.prepare)
        read = await own.threaded(
            lambda: [pictures.read(one, f"image[{i}]") for i, one in enumerate(raw)]
        )
        items = [Item(texts[i] if texts else None, picture) for i, picture in enumerate(read)]
        return await own.embed(state, items)

    vectors, tokens = await own.in_time(work(), len(image))
    return _embeddings(state, vectors, tokens, encoding_format)


@api.post("/v1/similarity", response_model=schema.SimilarityAnswer, **_v1)
async def similarity(request: schema.SimilarityRequest) -> Any:
    """Cosines of all of `a` with all of `b`."""
    own = _endpoint()
    state = own.state_for(request.model)
    a, b = _plain(request.a), _plain(request.b)

    async def work() -> tuple[np.ndarray, int]:
        items = [*await own.read(state, a, "a"), *await own.read(state, b, "b")]
        return await own.embed(state, items)

    vectors, tokens = await own.in_time(work(), items_in(a) + items_in(b))
    cosines = vectors[: items_in(a)] @ vectors[items_in(a) :].T
    return _Json(_answer(state, cosines.tolist(), tokens))


@api.post("/v1/search", response_model=schema.SearchAnswer, **_v1)
async def search(request: schema.SearchRequest) -> Any:
    """The nearest entries of the index, best first, each with its `score`."""
    own = _endpoint()
    state = own.state_for(request.model)
    if state.index is None:
        raise ServiceRefusal(422, "no index is served here: start with --index", "query")
    if request.k > own.config.limits.results:
        raise ServiceRefusal(413, f"k: at most {own.config.limits.results} results", "k")
    query = _plain(request.query)
    vectors, tokens = await own.in_time(own.read_and_embed(state, query, "query"), 1)
    found = await own.threaded(state.index.search, vectors[0], request.k)
    rows = [{**entry, "score": score} for score, entry in found]
    return _Json(_answer(state, rows, tokens))


@api.post("/v1/classify", response_model=schema.ClassifyAnswer, **_v1)
async def classify(request: schema.ClassifyRequest) -> Any:
    """The most probable class of each text, picture or pair, with the probabilities of all."""
    own = _endpoint()
    state = own.state
    if state.classifier is None:
        raise ServiceRefusal(
            422, "no classifier is served here: start with --classifier FOLDER", "input"
        )
    name = state.classifier.name
    if request.model not in (None, name):
        raise ServiceRefusal(404, f"this endpoint's classifier is {name}", "model")
    plain = _plain(request.input)
    rows, tokens = await own.in_time(own.read_and_classify(state, plain), items_in(plain))
    names = state.classifier_reader.classes
    data = [
        {
            "object": "classification",
            "index": i,
            "label": names[int(row.argmax())],
            "score": float(row.max()),
            "scores": dict(zip(names, row.tolist(), strict=True)),
        }
        for i, row in enumerate(rows)
    ]
    return _Json(_answer(state, data, tokens) | {"model": name})


@api.post("/v1/attention", response_model=schema.AttentionAnswer, **_v1)
async def attention(request: schema.AttentionRequest) -> Any:
    """How much the model looks at each part of a picture (rows × columns, sum 1)."""
    own = _endpoint()
    state = own.state
    item = {"image": request.image} | ({"text": request.text} if request.text else {})

    async def work() -> np.ndarray:
        (read,) = await own.read(state, item, "the body")
        return await own.on_model(state.encoder.attention, read.picture, read.text)

    seen = await own.in_time(work(), 1)
    body = {"object": "attention", "data": seen.tolist(), "model": state.encoder.name}
    return _Json(body)


@api.get("/v1/models", response_model=schema.Models, **_v1)
async def models() -> Any:
    """The model that is served, and where and how exactly it computes."""
    state = _endpoint().state
    entries = len(state.index.entries) if state.index else 0
    card = schema.ModelCard(
        id=state.encoder.name,
        dimensions=state.encoder.dimensions,
        index_entries=entries,
        device=state.encoder.device,
        precision=state.encoder.precision,
    )
    return schema.Models(data=[card])


@api.get("/healthz", response_model=schema.Health)
async def healthz() -> Any:
    """The process answers."""
    return {"status": "ok"}


@api.get("/readyz", response_model=schema.Health, responses={503: {"model": schema.ErrorAnswer}})
async def readyz() -> Any:
    """A model is loaded."""
    _ = _endpoint().state
    return {"status": "ready"}


@api.get("/metrics", response_class=Response)
async def metrics() -> Response:
    """This replica's counters, for Prometheus."""
    encoder = _endpoint().state.encoder
    runtime.MODEL_BYTES.set(encoder.resident_bytes)
    runtime.DEVICE_BYTES.set(encoder.device_bytes)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@api.get("/", include_in_schema=False)
async def page() -> Response:
    """Type a caption or drop a picture."""
    return FileResponse(_PAGE / "index.html", media_type="text/html; charset=utf-8")


@api.get("/docs", include_in_schema=False)
async def docs() -> Response:
    """The OpenAPI document for people."""
    return FileResponse(_PAGE / "docs.html", media_type="text/html; charset=utf-8")


@api.get("/static/{name}", include_in_schema=False)
async def static(name: str) -> Response:
    """The page's own script and style."""
    kinds = {"page.js": "text/javascript", "docs.js": "text/javascript", "page.css": "text/css"}
    if name not in kinds:
        raise ServiceRefusal(404, "no such file")
    return FileResponse(_PAGE / name, media_type=f"{kinds[name]}; charset=utf-8")


def _answer(state: State, data: Any, tokens: int) -> dict[str, Any]:
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": state.encoder.name, "usage": usage}


def _embeddings(state: State, vectors: np.ndarray, tokens: int, encoding_format: str) -> Response:
    data = [
        {"object": "embedding", "index": i, "embedding": _in_format(row, encoding_format)}
        for i, row in enumerate(vectors)
    ]
    return _Json(_answer(state, data, tokens))


def _in_format(vector: np.ndarray, encoding_format: str) -> Any:
    if encoding_format == "base64":
        return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()
    return vector.tolist()


@serve.deployment
@serve.ingress(api)
class Endpoint:
    """One replica. The model runs in a process of its own; a thread waits for it."""

    def __init__(self, loaders: Loaders, config: ServingConfig) -> None:
        self.loaders, self.config = loaders, config
        runtime.set_config(config)
        runtime.give_large_memory_back()
        self.queued = 0
        self._state: State | None = None
        self._model_thread = ThreadPoolExecutor(1, "model")
        self._threads = ThreadPoolExecutor(4, "decode")
        self.encode_texts, self.encode_pictures = (
            Batches(
                partial(self._encode, kind),
                lambda work: len(work.items),
                config.batch_size,
                config.batch_wait_ms / 1000,
            )
            for kind in ("text", "image")
        )
        self.classify_items = Batches(
            self._classify,
            lambda work: len(work.items),
            config.batch_size,
            config.batch_wait_ms / 1000,
        )

    async def reconfigure(self, chosen: dict[str, str]) -> None:
        """`model`, `index` and `classifier`: load them beside what serves, then replace it at once.

        Raises RuntimeError where a GPU is asked for and Serve reserved none for this replica.
        """
        config = self.config
        threads = config.threads or max(1, int(config.cpus or usable_cores()))
        device = config.device_for(ray.get_gpu_ids())
        places = (chosen["model"], chosen.get("index", ""))
        self._state = await self.threaded(
            load_state,
            *(self.loaders, *places, threads, device, config.precision),
            chosen.get("classifier", ""),
        )

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

    async def read(
        self, state: State, plain: Any, name: str = "input", reader: Reader | None = None
    ) -> list[Item]:
        """Items of a validated request; in a thread where pictures are decoded or long texts
        checked. `reader`: the model's, or a classifier's."""
        arguments = (plain, self.config.limits, (reader or state.reader).prepare, name)
        texts = plain if isinstance(plain, list) else [plain]
        if all(isinstance(text, str) for text in texts) and _short(texts):
            return read_items(*arguments)
        return await self.threaded(read_items, *arguments)

    async def read_and_embed(
        self, state: State, plain: Any, name: str = "input"
    ) -> tuple[np.ndarray, int]:
        """Vectors [N, dimensions] and how many tokens the texts have."""
        return await self.embed(state, await self.read(state, plain, name))

    async def embed(self, state: State, items: Sequence[Item]) -> tuple[np.ndarray, int]:
        """Vectors [N, dimensions] and how many tokens the texts have."""
        texts = [item.text for item in items if item.text is not None]
        pictures = [item.picture for item in items if item.picture is not None]
        if _short(texts):
            lengths = state.reader.count_tokens(texts) if texts else []
        else:
            lengths = await self.threaded(state.reader.count_tokens, texts)
        size = self.config.batch_size
        works: list[Any] = []
        for start in range(0, len(texts), size):  # a request may have more items than a batch
            part = slice(start, start + size)
            works.append(self.encode_texts(_Work(state, texts[part], lengths[part])))
        for start in range(0, len(pictures), size):
            part = pictures[start : start + size]
            works.append(self.encode_pictures(_Work(state, part, [1] * len(part))))
        done = await asyncio.gather(*works)
        rows_in_turn = [row for part in done for row in part]
        of_texts, of_pictures = iter(rows_in_turn[: len(texts)]), iter(rows_in_turn[len(texts) :])
        rows = []
        for item in items:
            if item.text is not None and item.picture is not None:
                rows.append(joined(next(of_texts), next(of_pictures)))
            else:
                rows.append(next(of_texts if item.text is not None else of_pictures))
        return np.stack(rows), sum(lengths)

    async def read_and_classify(self, state: State, plain: Any) -> tuple[np.ndarray, int]:
        """Probabilities [N, classes] and how many tokens the texts have."""
        reader = state.classifier_reader
        assert reader is not None
        items = await self.read(state, plain, "input", reader)
        for i, item in enumerate(items):
            given = (item.text is not None, item.picture is not None)
            if given != (reader.takes_texts, reader.takes_pictures):
                wanted = {True: ["text"], False: []}[reader.takes_texts]
                wanted += ["image"] if reader.takes_pictures else []
                place = f"input[{i}]" if isinstance(plain, list) else "input"
                raise ServiceRefusal(
                    422, f"{place}: the classifier takes {' and '.join(wanted)}", place
                )
        texts = [item.text for item in items if item.text is not None]
        lengths = await self.threaded(reader.count_tokens, texts) if texts else []
        size = self.config.batch_size
        works = [
            self.classify_items(_Work(state, items[start : start + size], []))
            for start in range(0, len(items), size)
        ]
        return np.concatenate(await asyncio.gather(*works)), sum(lengths)

    async def in_time(self, work: Any, items: int) -> Any:
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

    async def _encode(self, kind: str, works: list[_Work]) -> list[np.ndarray]:
        """Each work's vectors; texts of similar length go through the model together."""
        found: list[np.ndarray | None] = [None] * len(works)
        for state in {id(w.state): w.state for w in works}.values():
            same = [i for i, w in enumerate(works) if w.state is state]
            items = [item for i in same for item in works[i].items]
            lengths = [length for i in same for length in works[i].lengths]
            runtime.BATCH.labels(kind).observe(len(items))
            runtime.ITEMS.labels(kind).inc(len(items))
            encode = state.encoder.texts if kind == "text" else state.encoder.pictures
            rows = await self.on_model(by_length, encode, items, lengths)
            start = 0
            for i in same:
                found[i] = rows[start : start + len(works[i].items)]
                start += len(works[i].items)
        return [rows for rows in found if rows is not None]

    async def _classify(self, works: list[_Work]) -> list[np.ndarray]:
        """Each work's probabilities."""
        found: list[np.ndarray | None] = [None] * len(works)
        for state in {id(w.state): w.state for w in works}.values():
            same = [i for i, w in enumerate(works) if w.state is state]
            items = [item for i in same for item in works[i].items]
            runtime.BATCH.labels("classified").observe(len(items))
            runtime.ITEMS.labels("classified").inc(len(items))
            reader, classifier = state.classifier_reader, state.classifier
            assert reader is not None
            assert classifier is not None
            texts = [item.text for item in items] if reader.takes_texts else None
            pictures = [item.picture for item in items] if reader.takes_pictures else None
            rows = await self.on_model(classifier.classify, texts, pictures)
            start = 0
            for i in same:
                found[i] = rows[start : start + len(works[i].items)]
                start += len(works[i].items)
        return [rows for rows in found if rows is not None]


def _short(texts: Sequence[str]) -> bool:
    return sum(map(len, texts)) <= _SHORT


def _plain(value: Any) -> Any:
    """Pydantic's models back to JSON values."""
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value.model_dump(exclude_none=True) if hasattr(value, "model_dump") else value


def application(loaders: Loaders, config: ServingConfig) -> Any:
    """The Serve application. Change its model while it runs by deploying it again with another
    `model`, `index` or `classifier`: replicas load it beside the old one and lose no request."""
    options: dict[str, Any] = {
        "name": "Endpoint",
        "ray_actor_options": {"num_cpus": config.cpus, "num_gpus": config.gpus},
        "autoscaling_config": {
            "min_replicas": config.min_replicas,
            "max_replicas": config.max_replicas,
            "target_ongoing_requests": config.batch_size,
        },
        # Ours answers 503 with Retry-After before Serve's own queue fills.
        "max_ongoing_requests": 2 * config.limits.queued_items,
        "max_queued_requests": 2 * config.limits.queued_items,
        "graceful_shutdown_timeout_s": config.limits.seconds + 5,
        "health_check_period_s": 5,
        # A line a request would cost more than a short text's embedding; /metrics counts them.
        "logging_config": {"enable_access_log": False},
        "user_config": {
            "model": config.model,
            "index": config.index,
            "classifier": config.classifier,
        },
    }
    return Endpoint.options(**options).bind(loaders, _without_places(config))


def _without_places(config: ServingConfig) -> ServingConfig:
    """What a replica is built with: if it changed, Serve would replace the replica instead."""
    from dataclasses import replace

    return replace(config, model="", index="", classifier="")
