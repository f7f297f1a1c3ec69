"""The routes that compare: similarity, search, rerank, classify, attention."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response

from momo_platform.serving import answers, schema
from momo_platform.serving.answers import ERRORS, Json, about, list_of, replica_of
from momo_platform.serving.config import Limits
from momo_platform.serving.errors import ServiceRefusal
from momo_platform.serving.items import (
    Item,
    Sent,
    check_characters,
    listed,
    sent_fields,
    sent_items,
)
from momo_platform.serving.replica import Replica
from momo_platform.serving.state import State

_NUMBER = 24
"""Characters of a probability in JSON."""
_LARGEST_ANSWER = 8
"""Times the characters that a request may have."""
router = APIRouter()


@router.post("/v1/similarity", response_model=answers.SimilarityAnswer, responses=ERRORS)
async def similarity(request: schema.SimilarityRequest, http: Request) -> Any:
    """Cosines of all of `a` with all of `b`."""
    own = replica_of(http)
    state = own.state_for(request.model)
    sent = sent_fields(own.config.limits, a=request.a, b=request.b)
    items, vectors = await own.in_time(own.embedded(state, sent, request.cuts), len(sent))
    rows = len(request.a) if isinstance(request.a, list) else 1
    cosines = vectors[:rows] @ vectors[rows:].T
    return list_of(cosines.tolist(), state.encoder.name, items)


@router.post("/v1/search", response_model=answers.SearchAnswer, responses=ERRORS)
async def search(request: schema.SearchRequest, http: Request) -> Any:
    """The nearest entries of the index, best first, each with its `score`."""
    own = replica_of(http)
    state = own.state_for(request.model)
    if state.index is None:
        raise ServiceRefusal(400, "no index is served here: start with --index", "query")
    if request.k > own.config.limits.results:
        raise ServiceRefusal(413, f"k: at most {own.config.limits.results} results", "k")
    index, sent = state.index, sent_fields(own.config.limits, query=request.query)

    async def work() -> tuple[list[Item], list[tuple[float, dict[str, Any]]]]:
        items, vectors = await own.embedded(state, sent, request.cuts)
        return items, await own.threaded(index.search, vectors[0], request.k)

    items, found = await own.in_time(work(), 1)
    rows = [{**entry, "score": score} for score, entry in found]
    return list_of(rows, state.encoder.name, items)


@router.post("/rerank", include_in_schema=False)
@router.post("/v2/rerank", include_in_schema=False)
@router.post("/v1/rerank", response_model=answers.RerankAnswer, responses=ERRORS)
async def rerank(request: schema.RerankRequest, http: Request) -> Any:
    """Documents (texts, pictures or pairs) by their cosine with the query, best first; the same as
    /v2/rerank and /rerank, where clients ask there."""
    own = replica_of(http)
    state = own.state_for(request.model)
    sent = sent_fields(own.config.limits, query=request.query, documents=request.documents)
    items, vectors = await own.in_time(own.embedded(state, sent, request.cuts), len(sent))
    scores = vectors[1:] @ vectors[0]
    order = np.argsort(-scores, kind="stable")[: request.top_n]
    results: list[dict[str, Any]] = [
        {"index": int(i), "relevance_score": float(scores[i])} for i in order
    ]
    if request.return_documents:
        for row in results:
            text = sent[1 + row["index"]].text
            row["document"] = {} if text is None else {"text": text}
    return Json({"id": uuid.uuid4().hex, "results": results, **about(state.encoder.name, items)})


@router.post("/v1/classify", response_model=answers.ClassifyAnswer, responses=ERRORS)
async def classify(request: schema.ClassifyRequest, http: Request) -> Any:
    """The most probable class of each text, picture or pair, with the probabilities of all: by the
    saved classifier, or zero-shot among `labels`."""
    own = replica_of(http)
    if request.labels is None:
        return await _by_classifier(request, own)
    state = own.state_for(request.model)
    limits, labels = own.config.limits, _checked_labels(request.labels)
    described = _described(labels, request.template or "{}", limits)
    sent = sent_items(request.input, limits)
    count = len(sent)
    _check_answer(count, labels, limits)
    sent += [Sent(f"labels[{i}]", text) for i, text in enumerate(described)]  # never pictures
    check_characters((one.text for one in sent), limits, "labels")
    items, vectors = await own.in_time(own.embedded(state, sent, request.cuts), len(sent))
    scaled = state.encoder.logit_scale * (vectors[:count] @ vectors[count:].T)
    odds = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return _classes(state.encoder.name, labels, odds / odds.sum(axis=1, keepdims=True), items)


async def _by_classifier(request: schema.ClassifyRequest, own: Replica) -> Response:
    state = own.state
    reader, classifier = state.classifier_reader, state.classifier
    if classifier is None or reader is None:
        told = "no classifier is served here: give labels, or start with --classifier FOLDER"
        raise ServiceRefusal(400, told, "labels")
    if request.template is not None:
        raise ServiceRefusal(400, "template: it is for labels, and none are given", "template")
    if request.model not in (None, classifier.name):
        told = f"this endpoint's classifier is {classifier.name}"
        raise ServiceRefusal(404, told, "model", "model_not_found")
    wanted = (reader.takes_texts, reader.takes_pictures)
    sent = sent_items(request.input, own.config.limits)

    async def work() -> tuple[list[Item], np.ndarray]:
        items = await own.read(reader, sent, wanted, request.cuts)
        return items, await own.classify(state, items)

    items, rows = await own.in_time(work(), len(sent))
    return _classes(classifier.name, list(reader.classes), rows, items)


def _checked_labels(labels: list[str]) -> list[str]:
    """Without surrounding blanks. Raises ServiceRefusal for empty ones and for twins."""
    stripped = [label.strip() for label in labels]
    if "" in stripped:
        place = f"labels[{stripped.index('')}]"
        raise ServiceRefusal(400, f"{place} is empty", place)
    if len(set(stripped)) < len(stripped):
        raise ServiceRefusal(400, "labels: one is there twice", "labels")
    return stripped


def _described(labels: list[str], template: str, limits: Limits) -> list[str]:
    """The texts of the classes. Raises ServiceRefusal before they are made where they are too many
    or too long together."""
    listed(labels, limits, "labels")
    places = template.count("{}")
    if not places:
        raise ServiceRefusal(400, "template: write {} where a label goes", "template")
    fixed = len(template) - 2 * places
    characters = len(labels) * fixed + places * sum(map(len, labels))
    if characters > limits.request_characters:
        raise ServiceRefusal(
            413,
            f"the template with every label has {characters} characters, "
            f"{limits.request_characters} are allowed",
            "template",
        )
    return [template.replace("{}", label) for label in labels]


def _check_answer(items: int, labels: list[str], limits: Limits) -> None:
    """Raise ServiceRefusal where the answer, which has every label with every item, would be
    larger than a request by far."""
    characters = items * sum(len(label) + _NUMBER for label in labels)
    if characters > _LARGEST_ANSWER * limits.request_characters:
        raise ServiceRefusal(
            413,
            f"the answer to {items} items with {len(labels)} labels would have {characters} "
            "characters: send fewer at once",
            "labels",
        )


def _classes(model: str, names: list[str], rows: np.ndarray, items: list[Item]) -> Response:
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
    return list_of(data, model, items)


@router.post("/v1/attention", response_model=answers.AttentionAnswer, responses=ERRORS)
async def attention(request: schema.AttentionRequest, http: Request) -> Any:
    """How much the model looks at each part of a picture (rows × columns, sum 1)."""
    own = replica_of(http)
    state: State = own.state_for(request.model)
    sent = sent_items(request, own.config.limits, "the body")

    async def work() -> np.ndarray:
        (read,) = await own.read(state.reader, sent)
        return await own.on_model(state.encoder.attention, read.picture, read.text)

    seen = await own.in_time(work(), 1)
    body = {"object": "attention", "data": seen.tolist(), "model": state.encoder.name}
    return Json(body)
