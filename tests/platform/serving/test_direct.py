"""The short way of embeddings answers as the application does, and leaves all else to it."""

import asyncio
import json

import pytest
from prometheus_client import REGISTRY
from toy_app import JSON, answered, replica_with, request, small, uri

from momo_platform.application import NAME
from momo_platform.serving.config import Limits
from momo_platform.serving.direct import Direct
from momo_platform.serving.schema import EmbeddingsRequest

AROUND = {"content-type": "application/vnd.other+json"}
"""JSON too, but of a kind that goes to the application."""


@pytest.fixture(scope="module")
def replica():
    return replica_with(limits=small())


@pytest.mark.parametrize(
    "body",
    [
        {"input": "a"},
        {"input": ["a", {"text": "abcd", "image": uri(9)}], "encoding_format": "base64"},
        {"input": uri(200), "dimensions": 1},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "ab"}]}]},
        {"input": "a", "messages": []},
        {"input": ["a" * 60, "b" * 60]},
        {"input": "a", "model": "other"},
        {"input": "a", "dimensions": 3},
        {"input": "a", "unknown": 1},
        {"input": [1, 2]},
        {"input": ["a", " "]},
        {"input": "\ud800"},
        {"input": "data:text/plain;base64,AA=="},
        {"input": "a", "encoding_format": "hex"},
        b'{"input": "a"',
        b'{"input": "a", "input": "b"}',
        '{"input": "é"}'.encode("utf-16"),
        b'{"input": "\xff"}',
        b"",
        b"[" * 3000,
    ],
)
def test_both_ways_answer_the_same(replica, body):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    short = request(replica, "POST", "/v1/embeddings", raw, **JSON)
    long = request(replica, "POST", "/v1/embeddings", raw, **AROUND)
    assert short == long
    assert short[0] in (200, 400, 404, 413, 415)


def test_those_are_two_ways(replica, monkeypatch):
    raw, ways, is_meant = json.dumps({"input": "a"}).encode(), [], Direct._is_meant
    monkeypatch.setattr(Direct, "_is_meant", lambda *given: ways.append(is_meant(*given)))
    for headers in (JSON, AROUND):
        assert request(replica, "POST", "/v1/embeddings", raw, **headers)[0] == 200
    assert ways == [True, False]


def test_what_is_not_meant_reaches_the_application_untouched(replica):
    seen = []

    async def app(scope, receive, send):
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message["more_body"]:
                break
        seen.append(body)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def never(given):
        raise AssertionError(given)

    class Route:
        path = "/v1/embeddings"

    direct = Direct(app, Route, EmbeddingsRequest, never)
    for method, path, headers in [
        ("POST", "/v1/embeddings", {}),
        ("POST", "/v1/embeddings", {"content-type": "text/plain"}),
        ("POST", "/v1/similarity", JSON),
        ("GET", "/v1/embeddings", JSON),
        ("POST", "/v1/embeddings", JSON),  # its body is none
    ]:
        assert asyncio.run(answered(direct, method, path, b'{"x": 1}', headers))[0] == 204
    assert seen == [b'{"x": 1}'] * 5


def test_a_body_in_parts_is_one_and_a_client_that_left_gets_nothing(replica):
    given, sent, passed_on = [], [], []

    async def answer(request):
        given.append(request.input)
        raise AssertionError

    class Route:
        path = "/v1/embeddings"

    headers = [(b"content-type", b"application/json; charset=utf-8")]
    scope = {"type": "http", "method": "POST", "path": Route.path, "headers": headers}

    def ask(*messages):
        waiting = iter(messages)

        async def receive():
            return next(waiting)

        async def application(scope, receive, send):
            passed_on.append(await receive())

        direct = Direct(application, Route, EmbeddingsRequest, answer)
        asyncio.run(direct(scope, receive, sent.append))

    part = {"type": "http.request", "body": b'{"input": "a', "more_body": True}
    ask(part, {"type": "http.disconnect"})
    assert (given, sent, passed_on) == ([], [], [part])  # the application counts it
    with pytest.raises(AssertionError):
        ask(part, part | {"body": b'b"}', "more_body": False})
    assert given == ["ab"]


def test_it_is_counted_bounded_and_timed_as_others_are(replica):
    labels = {"path": "/v1/embeddings", "status": "200"}
    name = f"{NAME}_requests_total"
    before = REGISTRY.get_sample_value(name, labels) or 0
    raw = json.dumps({"input": "a"}).encode()
    assert request(replica, "POST", "/v1/embeddings", raw, **JSON)[0] == 200
    assert REGISTRY.get_sample_value(name, labels) == before + 1
    tight = replica_with(limits=Limits(body_bytes=30))
    status, headers, body = request(
        tight, "POST", "/v1/embeddings", json.dumps({"input": "a" * 40}).encode(), **JSON
    )
    assert (status, json.loads(body)["error"]["code"]) == (413, "request_too_large")
    assert headers["x-content-type-options"] == "nosniff"
