"""A replica's routes without Ray: one reading of each item, usage, and what refusals name."""

import asyncio
import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from toy_encoder import ToyEncoder, ToyReader

from momo_platform.serving.config import Limits, ServingConfig
from momo_platform.serving.encoder import Loaders, joined
from momo_platform.serving.replica import Replica
from momo_platform.serving.routes import api

EDGE = "edge"


def png(red):
    file = io.BytesIO()
    Image.new("RGB", (3, 3), (red, 0, 0)).save(file, "PNG")
    return file.getvalue()


def form(*fields):
    """A form's body of (name, value)."""
    parts = [
        f'--{EDGE}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        + (b'; filename="f"' if isinstance(value, bytes) else b"")
        + b"\r\n\r\n"
        + (value if isinstance(value, bytes) else value.encode())
        + b"\r\n"
        for name, value in fields
    ]
    return b"".join(parts) + f"--{EDGE}--\r\n".encode()


async def ask(app, path, body):
    """(status, JSON) of a POST; `body` a value, or a form's bytes."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = (
        f"multipart/form-data; boundary={EDGE}" if isinstance(body, bytes) else "application/json"
    )
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": path}
    scope |= {"headers": [(b"content-type", kind.encode())], "query_string": b"", "root_path": ""}
    sent = []

    async def receive():
        return {"type": "http.request", "body": raw, "more_body": False}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(m.get("body", b"") for m in sent[1:]))


@pytest.fixture(scope="module")
def replica():
    limits = Limits(items=4, request_characters=100)
    found = Replica(Loaders(ToyEncoder, ToyReader), ServingConfig("here", limits=limits, threads=3))
    assert asyncio.run(ask(api(found), "/v1/embeddings", {"input": "a"}))[0] == 503
    asyncio.run(found.load({"model": "here"}, "cpu"))
    return found


def answer(replica, path, body):
    return asyncio.run(ask(api(replica), path, body))


def test_each_text_becomes_tokens_once_and_those_are_counted(replica):
    replica.state.reader.seen.clear()
    image = base64.b64encode(png(200)).decode()
    pair = {"text": "abcd", "image": image}
    status, found = answer(
        replica, "/v1/embeddings", {"input": ["a", pair, {"image": image}, "abcdefg"]}
    )
    assert status == 200
    assert replica.state.reader.seen == ["a", "abcd", "abcdefg"]
    assert found["usage"] == {"prompt_tokens": 1 + 4 + 5, "total_tokens": 1 + 4 + 5}
    text, picture = np.array([4, 3], np.float32), np.array([200, 0], np.float32)
    expected = [[1, 3], joined(text, picture).tolist(), [200, 0], [5, 3]]
    assert [one["embedding"] for one in found["data"]] == expected
    status, found = answer(replica, "/v1/similarity", {"a": "ab", "b": ["a", {"image": image}]})
    assert (status, found["data"]) == (200, [[2 * 1 + 3 * 3, 2 * 200]])
    assert found["usage"]["total_tokens"] == 3
    body = form(("image", png(7)), ("text", "abc"))
    status, found = answer(replica, "/v1/embeddings/upload", body)
    assert (status, found["usage"]["total_tokens"]) == (200, 3)


@pytest.mark.parametrize(
    "path, body, status, param",
    [
        ("embeddings", {"input": ["a", {"text": " "}]}, 400, "input[1].text"),
        ("embeddings", {"input": ["a", {}]}, 400, "input[1]"),
        ("embeddings", {"input": {"text": " "}}, 400, "input.text"),
        ("embeddings", {"input": ["a" * 60, "b" * 60]}, 413, "input"),
        ("embeddings", {"input": "a", "dimensions": 3}, 400, "dimensions"),
        ("embeddings", {"input": "a", "model": "other"}, 404, "model"),
        ("similarity", {"a": "a", "b": ["b", " "]}, 400, "b[1]"),
        ("similarity", {"a": ["a"] * 3, "b": ["a"] * 2}, 413, "input"),
        ("similarity", {"a": ["a"], "b": [3]}, 400, "b"),
        ("search", {"query": "a"}, 400, "query"),
        ("classify", {"input": "a"}, 400, "labels"),
        ("attention", {"image": "%"}, 400, "image"),
        (
            "attention",
            {"image": base64.b64encode(png(1)).decode(), "text": " "},
            400,
            "text",
        ),
        ("embeddings/upload", form(("image", b"none")), 415, "image[0]"),
        ("embeddings/upload", form(("image", png(1)), ("text", " ")), 400, "text[0]"),
        ("embeddings/upload", form(("image", png(1)), ("text", "a"), ("text", "b")), 400, "text"),
    ],
)
def test_a_refusal_names_the_parameter(replica, path, body, status, param):
    found, told = answer(replica, f"/v1/{path}", body)
    assert (found, told["error"]["param"]) == (status, param), told
    assert replica.queued == 0
