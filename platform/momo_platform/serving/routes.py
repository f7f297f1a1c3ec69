"""The HTTP routes: each is a function from a validated request to an answer."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, FastAPI, File, Form, Request, UploadFile
from fastapi.responses import FileResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic_core import to_json

from momo_platform.serving import browse, runtime, schema
from momo_platform.serving.errors import ServiceRefusal
from momo_platform.serving.http import Guard, add_error_handlers
from momo_platform.serving.items import Sent, items_in, sent_items
from momo_platform.serving.replica import Replica
from momo_platform.serving.state import State

_PAGE = Path(__file__).with_name("page")
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": schema.ErrorAnswer} for status in (401, 408, 413, 415, 422, 503, 504)
}
_v1: dict[str, Any] = {"responses": _ERRORS}
router = APIRouter()


def api(replica: Replica) -> FastAPI:
    """The application of one replica."""
    app = FastAPI(
        title=replica.config.title,
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.replica = replica
    app.add_middleware(Guard, config=replica.config)
    add_error_handlers(app, replica.config.limits)
    # An included router hides its paths, which /metrics tells.
    app.routes.extend([*router.routes, *browse.router.routes])
    return app


def _replica(http: Request) -> Replica:
    return http.app.state.replica


class _Json(Response):
    """By pydantic's writer, which is many times faster for numbers than the standard library's."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return to_json(content, inf_nan_mode="null")


@router.post("/v1/embeddings", response_model=schema.EmbeddingsAnswer, **_v1)
async def embeddings(request: schema.EmbeddingsRequest, http: Request) -> Any:
    """Embed texts, pictures and pairs, as OpenAI's endpoint does texts."""
    own = _replica(http)
    state = own.state_for(request.model)
    if request.dimensions not in (None, state.encoder.dimensions):
        raise ServiceRefusal(
            422, f"dimensions: the model's vectors have {state.encoder.dimensions}", "dimensions"
        )
    work = own.read_and_embed(state, request.input)
    vectors, tokens = await own.in_time(work, items_in(request.input))
    return _embeddings(state, vectors, tokens, request.encoding_format)


@router.post("/v1/embeddings/upload", response_model=schema.EmbeddingsAnswer, **_v1)
async def upload(
    http: Request,
    image: Annotated[list[UploadFile], File(description="Pictures, or the pictures of pairs.")],
    text: Annotated[list[str] | None, Form(description="As many texts, for pairs.")] = None,
    encoding_format: Annotated[str, Form(pattern="^(float|base64)$")] = "float",
) -> Any:
    """The same for files of a form."""
    own = _replica(http)
    limits = own.config.limits
    texts = [one.checked_text(limits) for one in (sent_items(text, limits, "text") if text else ())]
    if texts and len(texts) != len(image):
        raise ServiceRefusal(422, f"{len(texts)} texts for {len(image)} images", "text")
    if len(image) > limits.items:
        raise ServiceRefusal(413, f"{limits.items} images are allowed", "image")
    sent = [
        Sent(
            *(f"image[{i}]", f"text[{i}]"),
            text=texts[i] if texts else None,
            image=await file.read(limits.picture_bytes + 1),
        )
        for i, file in enumerate(image)
    ]
    state = own.state

    async def work() -> tuple[np.ndarray, int]:
        return await own.embed(state, await own.read_sent(state.reader, sent))

    vectors, tokens = await own.in_time(work(), len(image))
    return _embeddings(state, vectors, tokens, encoding_format)


@router.post("/v1/similarity", response_model=schema.SimilarityAnswer, **_v1)
async def similarity(request: schema.SimilarityRequest, http: Request) -> Any:
    """Cosines of all of `a` with all of `b`."""
    own = _replica(http)
    state = own.state_for(request.model)
    a, b = request.a, request.b

    async def work() -> tuple[np.ndarray, int]:
        read = [*await own.read(state.reader, a, "a"), *await own.read(state.reader, b, "b")]
        return await own.embed(state, read)

    vectors, tokens = await own.in_time(work(), items_in(a) + items_in(b))
    cosines = vectors[: items_in(a)] @ vectors[items_in(a) :].T
    return _Json(_answer(state, cosines.tolist(), tokens))


@router.post("/v1/search", response_model=schema.SearchAnswer, **_v1)
async def search(request: schema.SearchRequest, http: Request) -> Any:
    """The nearest entries of the index, best first, each with its `score`."""
    own = _replica(http)
    state = own.state_for(request.model)
    if state.index is None:
        raise ServiceRefusal(422, "no index is served here: start with --index", "query")
    if request.k > own.config.limits.results:
        raise ServiceRefusal(413, f"k: at most {own.config.limits.results} results", "k")
    work = own.read_and_embed(state, request.query, "query")
    vectors, tokens = await own.in_time(work, 1)
    found = await own.threaded(state.index.search, vectors[0], request.k)
    rows = [{**entry, "score": score} for score, entry in found]
    return _Json(_answer(state, rows, tokens))


@router.post("/v1/classify", response_model=schema.ClassifyAnswer, **_v1)
async def classify(request: schema.ClassifyRequest, http: Request) -> Any:
    """The most probable class of each text, picture or pair, with the probabilities of all."""
    own = _replica(http)
    state = own.state
    if state.classifier is None or state.classifier_reader is None:
        raise ServiceRefusal(
            422, "no classifier is served here: start with --classifier FOLDER", "input"
        )
    name = state.classifier.name
    if request.model not in (None, name):
        raise ServiceRefusal(404, f"this endpoint's classifier is {name}", "model")
    work = own.read_and_classify(state, request.input)
    rows, tokens = await own.in_time(work, items_in(request.input))
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


@router.post("/v1/attention", response_model=schema.AttentionAnswer, **_v1)
async def attention(request: schema.AttentionRequest, http: Request) -> Any:
    """How much the model looks at each part of a picture (rows × columns, sum 1)."""
    own = _replica(http)
    state = own.state

    async def work() -> np.ndarray:
        (read,) = await own.read(state.reader, request, "the body")
        return await own.on_model(state.encoder.attention, read.picture, read.text)

    seen = await own.in_time(work(), 1)
    body = {"object": "attention", "data": seen.tolist(), "model": state.encoder.name}
    return _Json(body)


@router.get("/v1/models", response_model=schema.Models, **_v1)
async def models(http: Request) -> Any:
    """The model that is served, and where and how exactly it computes."""
    state = _replica(http).state
    entries = len(state.index.entries) if state.index else 0
    card = schema.ModelCard(
        id=state.encoder.name,
        dimensions=state.encoder.dimensions,
        index_entries=entries,
        device=state.encoder.device,
        precision=state.encoder.precision,
    )
    return schema.Models(data=[card])


@router.get("/healthz", response_model=schema.Health)
async def healthz() -> Any:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", response_model=schema.Health, responses={503: {"model": schema.ErrorAnswer}})
async def readyz(http: Request) -> Any:
    """A model is loaded."""
    _ = _replica(http).state
    return {"status": "ready"}


@router.get("/metrics", response_class=Response)
async def metrics(http: Request) -> Response:
    """This replica's counters, for Prometheus."""
    encoder = _replica(http).state.encoder
    runtime.MODEL_BYTES.set(encoder.resident_bytes)
    runtime.DEVICE_BYTES.set(encoder.device_bytes)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@router.get("/", include_in_schema=False)
async def page() -> Response:
    """Type a caption or drop a picture."""
    return FileResponse(_PAGE / "index.html", media_type="text/html; charset=utf-8")


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    """The OpenAPI document for people."""
    return FileResponse(_PAGE / "docs.html", media_type="text/html; charset=utf-8")


@router.get("/static/{name}", include_in_schema=False)
async def static(name: str) -> Response:
    """The page's own script and style."""
    scripts = dict.fromkeys(("page.js", "heat.js", "docs.js"), "text/javascript")
    kinds = scripts | {"page.css": "text/css"}
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
