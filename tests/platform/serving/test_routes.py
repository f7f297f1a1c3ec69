"""A replica's routes without Ray: one reading of each item, usage, and what refusals name."""

import asyncio
import base64
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from toy_app import LOADERS, ask, form, png, post, replica_with, small, uri

from momo_platform.serving.config import ServingConfig
from momo_platform.serving.encoder import joined
from momo_platform.serving.replica import Replica
from momo_platform.serving.routes import api


@pytest.fixture(scope="module")
def replica():
    found = Replica(LOADERS, ServingConfig("here", limits=small(), threads=3))
    assert asyncio.run(ask(api(found), "/v1/embeddings", {"input": "a"}))[0] == 503
    asyncio.run(found.load({"model": "here"}, "cpu"))
    return found


def test_each_text_becomes_tokens_once_and_those_are_counted(replica):
    replica.state.reader.seen.clear()
    image = base64.b64encode(png(200)).decode()
    pair = {"text": "abcd", "image": image}
    status, found = post(
        replica, "/v1/embeddings", {"input": ["a", pair, {"image": image}, "abcdefg"]}
    )
    assert status == 200
    assert replica.state.reader.seen == ["a", "abcd", "abcdefg"]
    assert found["usage"] == {"prompt_tokens": 1 + 4 + 5, "total_tokens": 1 + 4 + 5}
    text, picture = np.array([4, 3], np.float32), np.array([200, 0], np.float32)
    expected = [[1, 3], joined(text, picture).tolist(), [200, 0], [5, 3]]
    assert [one["embedding"] for one in found["data"]] == expected
    status, found = post(replica, "/v1/similarity", {"a": "ab", "b": ["a", {"image": image}]})
    assert (status, found["data"]) == (200, [[2 * 1 + 3 * 3, 2 * 200]])
    assert found["usage"]["total_tokens"] == 3
    body = form(("image", png(7)), ("text", "abc"))
    status, found = post(replica, "/v1/embeddings/upload", body)
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
        ("similarity", {"a": ["a"] * 3, "b": ["a"] * 5}, 413, "b"),
        ("similarity", {"a": ["a" * 60], "b": "b" * 60}, 413, "b"),
        ("embeddings", {"input": [{"\ud800": 1}]}, 400, "input[0]"),
        ("embeddings", {"input": "a", "\ud800": 1}, 400, None),
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
        (
            "embeddings/upload",
            form(("image", png(1)), ("text", "data:image/png;base64,AA==")),
            400,
            "text[0]",
        ),
        ("embeddings/upload", form(("image", png(1)), ("text", "a"), ("text", "b")), 400, "text"),
    ],
)
def test_a_refusal_names_the_parameter(replica, path, body, status, param):
    found, told = post(replica, f"/v1/{path}", body)
    assert (found, told["error"]["param"]) == (status, param), told
    assert replica.queued == 0


def test_limits_hold_for_the_fields_of_a_request_together():
    found = replica_with(limits=small(request_tokens=6, request_pixels=20, items=3))
    status, told = post(found, "/v1/similarity", {"a": "abcd", "b": ["a", "bcd"]})
    assert (status, told["error"]["param"]) == (413, "b"), told
    status, told = post(found, "/v1/rerank", {"query": uri(1), "documents": ["a", uri(2), uri(3)]})
    assert (status, told["error"]["param"]) == (413, "documents[2]"), told
    status, told = post(found, "/v1/similarity", {"a": ["a"] * 3, "b": ["b"] * 3})
    assert (status, len(told["data"])) == (200, 3)


def test_a_search_has_its_place_in_the_queue_until_its_end():
    found, seen = replica_with(), []

    def search(vector, k):
        seen.append(found.queued)
        return [(0.5, {"caption": "x"})]

    found._state = replace(found.state, index=SimpleNamespace(search=search))
    status, told = post(found, "/v1/search", {"query": "a"})
    assert (status, told["data"]) == (200, [{"caption": "x", "score": 0.5}])
    assert (seen, found.queued) == ([1], 0)


def test_a_model_without_attention_says_so(replica):
    status, told = post(replica, "/v1/attention", {"image": uri(13)})
    assert (status, told["error"]["message"]) == (400, "this engine gives vectors only")
