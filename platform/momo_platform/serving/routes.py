"""The HTTP routes: each is a function from a validated request to an answer. Here are the
application, embeddings, and what tells about the endpoint; `comparisons.py` has the rest."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, FastAPI, File, Form, Request, UploadFile
from fastapi.responses import FileResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.middleware.cors import CORSMiddleware

from momo_platform.serving import answers, browse, comparisons, metrics, schema
from momo_platform.serving.answers import ERRORS, replica_of
from momo_platform.serving.direct import Direct
from momo_platform.serving.errors import ServiceRefusal
from momo_platform.serving.http import Guard, add_error_handlers
from momo_platform.serving.items import Item, Sent, check_characters, listed, sent_items
from momo_platform.serving.openapi import describe
from momo_platform.serving.replica import Replica
from momo_platform.serving.state import State

_PAGE = Path(__file__).with_name("page")
_FIELDS = {"image", "text", "model", "encoding_format", "dimensions", "truncate"}
router = APIRouter()


def api(replica: Replica) -> FastAPI:
    """The application of one replica."""
    config = replica.config
    app = FastAPI(
        title=config.title,
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # A replica has traces and counters of its own; looking for others costs each request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.replica = replica
    (route,) = [one for one in router.routes if getattr(one, "endpoint", None) is embeddings]
    direct = partial(embedded, replica)
    app.add_middleware(Direct, route=route, schema=schema.EmbeddingsRequest, answer=direct)
    app.add_middleware(Guard, config=config, tracer=replica.tracer)
    if config.cors_origins:  # around the guard: a browser asks for leave without the key
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
        )
    add_error_handlers(app, config.limits)
    # An included router hides its paths, which /metrics tells.
    app.routes.extend([*router.routes, *comparisons.router.routes, *browse.router.routes])
    describe(app, has_keys=bool(config.keys))
    return app


@router.post("/v1/embeddings", response_model=answers.EmbeddingsAnswer, responses=ERRORS)
async def embeddings(request: schema.EmbeddingsRequest, http: Request) -> Any:
    """Embed texts, pictures and pairs, as OpenAI's endpoint does texts."""
    return await embedded(replica_of(http), request)


async def embedded(own: Replica, request: schema.EmbeddingsRequest) -> Response:
    """The answer to `embeddings`."""
    state = own.state_for(request.model)
    _check_dimensions(request.dimensions, state)
    given, name = request.given()
    sent = sent_items(given, own.config.limits, name)
    items, vectors = await own.in_time(own.embedded(state, sent, request.cuts), len(sent))
    return _embeddings(state, items, vectors, request.dimensions, request.encoding_format)


@router.post("/v1/embeddings/upload", response_model=answers.EmbeddingsAnswer, responses=ERRORS)
async def upload(
    http: Request,
    image: Annotated[list[UploadFile], File(description="PNG, JPEG, WebP, GIF, BMP or AVIF.")],
    text: Annotated[list[str] | None, Form(description="As many texts, for pairs.")] = None,
    model: Annotated[str | None, Form(description="Must be the model served.")] = None,
    encoding_format: Annotated[str, Form(pattern="^(float|base64)$")] = "float",
    dimensions: Annotated[int | None, Form(ge=1)] = None,
    truncate: Annotated[bool, Form(description="false: long texts are refused.")] = True,
) -> Any:
    """The same for files of a form."""
    own = replica_of(http)
    limits = own.config.limits
    if unknown := sorted(set(await http.form()) - _FIELDS):
        raise ServiceRefusal(400, f"unknown {', '.join(unknown)[:100]}", unknown[0][:200])
    state = own.state_for(model)
    _check_dimensions(dimensions, state)
    written = listed(text, limits, "text") if text else []
    check_characters((value for _, value in written), limits, "text")
    texts = [Sent(place, value).checked_text(limits) for place, value in written]
    if texts and len(texts) != len(image):
        raise ServiceRefusal(400, f"{len(texts)} texts for {len(image)} images", "text")
    if len(image) > limits.items:
        raise ServiceRefusal(413, f"{limits.items} images are allowed", "image")
    sent = [
        Sent(
            f"image[{i}]",
            text=texts[i] if texts else None,
            image=await file.read(limits.picture_bytes + 1),
            text_place=f"text[{i}]",
        )
        for i, file in enumerate(image)
    ]
    items, vectors = await own.in_time(own.embedded(state, sent, truncate), len(sent))
    return _embeddings(state, items, vectors, dimensions, encoding_format)


def _check_dimensions(dimensions: int | None, state: State) -> None:
    most = state.encoder.dimensions
    if dimensions is not None and dimensions > most:
        raise ServiceRefusal(400, f"dimensions: the model's vectors have {most}", "dimensions")


def _embeddings(
    state: State,
    items: list[Item],
    vectors: np.ndarray,
    dimensions: int | None,
    encoding_format: str | None,
) -> Response:
    if dimensions is not None and dimensions < vectors.shape[1]:
        vectors = vectors[:, :dimensions]
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    data = [
        {"object": "embedding", "index": i, "embedding": answers.in_format(row, encoding_format)}
        for i, row in enumerate(vectors)
    ]
    return answers.list_of(data, state.encoder.name, items)


@router.get("/v1/models", response_model=answers.Models, responses=ERRORS)
async def models(http: Request) -> Any:
    """The model that is served, and where and how exactly it computes."""
    return answers.Models(data=[_card(replica_of(http).state)])


@router.get("/v1/models/{model}", response_model=answers.ModelCard, responses=ERRORS)
async def one_model(model: str, http: Request) -> Any:
    """The same of one by its id."""
    return _card(replica_of(http).state_for(model))


def _card(state: State) -> answers.ModelCard:
    return answers.ModelCard(
        id=state.encoder.name,
        dimensions=state.encoder.dimensions,
        max_tokens=state.reader.max_tokens,
        index_entries=len(state.index.entries) if state.index else 0,
        device=state.encoder.device,
        precision=state.encoder.precision,
    )


@router.get("/healthz", response_model=answers.Health)
async def healthz() -> Any:
    """The process answers."""
    return {"status": "ok"}


@router.get(
    "/readyz", response_model=answers.Health, responses={503: {"model": answers.ErrorAnswer}}
)
async def readyz(http: Request) -> Any:
    """A model is loaded."""
    _ = replica_of(http).state
    return {"status": "ready"}


@router.get("/metrics", response_class=Response)
async def all_metrics(http: Request) -> Response:
    """All replicas' counters, for Prometheus."""
    found = metrics.merged(await replica_of(http).expositions())
    return Response(found, media_type=CONTENT_TYPE_LATEST)


@router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
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
