"""Answers, for the OpenAPI document, and how they are written."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel
from pydantic_core import to_json

from momo_platform.serving.items import Item, tokens_of
from momo_platform.serving.replica import Replica

Data = TypeVar("Data")


class Embedding(BaseModel):
    object: str = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens of the texts that the model reads; pictures have none."""

    prompt_tokens: int
    total_tokens: int


class ReadAnswer(BaseModel):
    """`truncated`: the texts of which the model read the beginning only, e.g. `input[3]`."""

    model: str
    usage: Usage
    truncated: list[str]


class _ListAnswer(ReadAnswer, Generic[Data]):
    object: str = "list"
    data: list[Data]


class EmbeddingsAnswer(_ListAnswer[Embedding]):
    pass


class SimilarityAnswer(_ListAnswer[list[float]]):
    pass


class SearchAnswer(_ListAnswer[dict[str, Any]]):
    pass


class Ranked(BaseModel):
    """A document's place in the request, and its cosine with the query."""

    index: int
    relevance_score: float
    document: dict[str, str] | None = None


class RerankAnswer(ReadAnswer):
    """Best first."""

    id: str
    results: list[Ranked]


class AttentionAnswer(BaseModel):
    object: str = "attention"
    data: list[list[float]]
    model: str


class Classification(BaseModel):
    """The most probable class, its probability, and those of all classes."""

    object: str = "classification"
    index: int
    label: str
    score: float
    scores: dict[str, float]


class ClassifyAnswer(_ListAnswer[Classification]):
    pass


class ModelCard(BaseModel):
    """`max_tokens`: of a text, those that the model reads."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "local"
    dimensions: int
    max_tokens: int
    index_entries: int
    device: str
    precision: str


class Models(BaseModel):
    object: str = "list"
    data: list[ModelCard]


class Health(BaseModel):
    status: str


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str


class ErrorAnswer(BaseModel):
    error: ErrorDetail


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer} for status in (400, 401, 403, 404, 408, 413, 415, 503, 504)
}


def replica_of(http: Request) -> Replica:
    """Whose application the request came to."""
    return http.app.state.replica


class Json(Response):
    """By pydantic's writer, which is many times faster for numbers than the standard library's."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return to_json(content, inf_nan_mode="null")


def about(model: str, items: Sequence[Item]) -> dict[str, Any]:
    """The fields of a `ReadAnswer`."""
    tokens = tokens_of(items)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    truncated = [item.truncated for item in items if item.truncated]
    return {"model": model, "usage": usage, "truncated": truncated}


def list_of(data: Any, model: str, items: Sequence[Item]) -> Json:
    """An answer with `data`."""
    return Json({"object": "list", "data": data, **about(model, items)})


def in_format(vector: np.ndarray, encoding_format: str | None) -> Any:
    """A vector as JSON: numbers, or base64 of little-endian float32."""
    if encoding_format == "base64":
        return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()
    return vector.tolist()
