"""Requests and errors as clients of OpenAI's endpoint send and expect them, over the toy model."""

import json

import numpy as np
import pytest
from toy_app import JSON, form, png, post, replica_with, request, small, uri

from momo_platform.serving.config import Limits
from momo_platform.serving.encoder import joined


@pytest.fixture(scope="module")
def replica():
    return replica_with(limits=small(items=3000, request_characters=20_000, request_tokens=9000))


def text_part(text):
    return {"type": "text", "text": text}


def image_part(red, **more):
    return {"type": "image_url", "image_url": {"url": uri(red), **more}}


PAIR = joined(np.array([2, 3], np.float32), np.array([7, 0], np.float32)).tolist()


@pytest.mark.parametrize(
    "body, expected",
    [
        ({"input": [uri(7), "ab"]}, [[7, 0], [2, 3]]),
        ({"input": uri(7).replace("data:image", "DATA:Image")}, [[7, 0]]),
        ({"input": [image_part(7), text_part("ab")]}, [[7, 0], [2, 3]]),
        ({"input": image_part(7, detail="low")}, [[7, 0]]),
        ({"input": {"type": "image_url", "image_url": uri(7)}}, [[7, 0]]),
        ({"input": [{"content": [text_part("ab"), image_part(7)]}]}, [PAIR]),
        ({"input": [{"content": "ab"}]}, [[2, 3]]),
        ({"messages": [{"role": "user", "content": [image_part(7), text_part("ab")]}]}, [PAIR]),
        ({"messages": [{"role": "user", "content": "a"}, {"content": "b"}]}, [[3, 3]]),
        ({"input": "data: the new oil"}, [[5, 3]]),
        ({"input": "ab", "encoding_format": None, "dimensions": None, "user": "me"}, [[2, 3]]),
        ({"input": "ab", "model": "toy", "dimensions": 2}, [[2, 3]]),
        ({"input": "ab", "dimensions": 1}, [[1]]),
    ],
)
def test_what_clients_send_is_embedded(replica, body, expected):
    status, found = post(replica, "/v1/embeddings", body)
    assert status == 200, found
    for row, wanted in zip(found["data"], expected, strict=True):
        np.testing.assert_allclose(row["embedding"], wanted, atol=1e-6)


@pytest.mark.parametrize(
    "body, status, param, told",
    [
        ({"input": "a", "modality": "image"}, 400, "modality", "unknown here"),
        ({"input": "a", "input_type": "query"}, 400, "input_type", "unknown here"),
        ({"input": [1, 2]}, 400, "input", "check_embedding_ctx_length=False"),
        ({"input": [[1, 2], [3]]}, 400, "input", "check_embedding_ctx_length=False"),
        ({"input": "data:text/html;base64,AAAA"}, 415, "input", "not of a picture"),
        ({"input": {"text": uri(7)}}, 400, "input.text", "send it as a picture"),
        ({"input": [text_part(3)]}, 400, "input[0]", "content parts are"),
        ({"input": [{"type": "image_url"}]}, 400, "input[0]", "content parts are"),
        (
            {"input": [{"type": "image_url", "image_url": {"url": "https://a/b.png"}}]},
            *(400, "input[0].image_url", "not fetched"),
        ),
        ({"input": {"content": [image_part(1)] * 2}}, 400, "input", "2 pictures, one is allowed"),
        ({"input": {"content": []}}, 400, "input", "neither text nor image"),
        ({"messages": [{"role": "user", "content": 3}]}, 400, "messages", "give ["),
        ({"messages": []}, 400, "messages", "neither text nor image"),
        ({"messages": [{"content": "a"}], "input": "a"}, 400, "input", "or messages"),
        ({}, 400, "input", "give input"),
        ({"input": "a", "dimensions": 3}, 400, "dimensions", "vectors have 2"),
        ({"input": "a", "dimensions": 0}, 400, "dimensions", "greater than"),
        ({"input": "a", "model": "other"}, 404, "model", "serves toy only"),
        ({"input": ["abcde"] * 2000}, 413, "input", "10000 tokens together, 9000"),
        ({"input": ["a"] * 3001}, 413, "input", "3000 are allowed"),
    ],
)
def test_what_is_refused_has_openais_shape_and_says_what_to_do(replica, body, status, param, told):
    found, answer = post(replica, "/v1/embeddings", body)
    error = answer["error"]
    assert (found, error["param"]) == (status, param), answer
    assert told in error["message"]
    assert error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["code"], str)


def test_as_many_items_as_openai_takes_and_no_more_at_once_than_others_can_wait_for(replica):
    assert Limits().items == 2048
    texts = ["a" * (1 + n % 3) for n in range(2048)]
    status, found = post(replica, "/v1/embeddings", {"input": texts})
    assert status == 200
    assert [row["embedding"][0] for row in found["data"]] == [len(text) for text in texts]


def test_cut_texts_are_named_and_refused_where_they_must_not_be_cut(replica):
    body = {"input": ["abcde", "abcdef", {"text": "abcdefg", "image": uri(1)}]}
    status, found = post(replica, "/v1/embeddings", body)
    assert (status, found["truncated"]) == (200, ["input[1]", "input[2].text"])
    assert found["usage"]["total_tokens"] == 15
    assert post(replica, "/v1/embeddings", body | {"truncate": True})[0] == 200
    status, found = post(replica, "/v1/embeddings", body | {"truncate": False})
    assert (status, found["error"]["code"]) == (400, "context_length_exceeded")
    assert found["error"]["param"] == "input[1]"
    assert "input[1] has 6 tokens, the model reads 5" in found["error"]["message"]
    status, found = post(replica, "/v1/embeddings", {"input": "abcde", "truncate": False})
    assert (status, found["truncated"]) == (200, [])
    _, found = post(replica, "/v1/similarity", {"a": "abcdef", "b": ["a", "ghijkl"]})
    assert found["truncated"] == ["a", "b[1]"]
    body = form(("image", png(1)), ("text", "abcdef"), ("truncate", "false"))
    status, found = post(replica, "/v1/embeddings/upload", body)
    assert (status, found["error"]["param"]) == (400, "text[0]")


def test_models_tell_what_they_read_and_are_found_by_id(replica):
    _, _, raw = request(replica, "GET", "/v1/models")
    (card,) = json.loads(raw)["data"]
    assert (card["id"], card["max_tokens"], card["dimensions"]) == ("toy", 5, 2)
    status, _, raw = request(replica, "GET", "/v1/models/toy")
    assert (status, json.loads(raw)) == (200, card)
    status, _, raw = request(replica, "GET", "/v1/models/gpt")
    assert (status, json.loads(raw)["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    "kind, told",
    [
        (None, "it has no Content-Type: send JSON with the header Content-Type: application/json"),
        ("application/x-www-form-urlencoded", "x-www-form-urlencoded: send JSON with the header"),
        ("text/plain", "its Content-Type is text/plain"),
        ("application/json", "the body: it is not JSON"),
    ],
)
def test_a_body_of_another_kind_is_told_what_to_send(replica, kind, told):
    headers = {} if kind is None else {"content-type": kind}
    raw = b'{"input": "a"}' if kind != "application/json" else b"{"
    status, _, content = request(replica, "POST", "/v1/embeddings", raw, **headers)
    assert status == 400
    assert told in json.loads(content)["error"]["message"]


def test_uploads_honour_the_model_and_refuse_other_fields(replica):
    for name, value, status in (
        *(("model", "toy", 200), ("model", "other", 404), ("dimensions", "1", 200)),
        *(("dimensions", "9", 400), ("modality", "x", 400), ("truncate", "maybe", 400)),
    ):
        body = form(("image", png(7)), (name, value))
        found, answer = post(replica, "/v1/embeddings/upload", body)
        assert (found, name) == (status, name), answer
        assert status == 200 or answer["error"]["param"] == name
    status, _, raw = request(replica, "POST", "/v1/embeddings/upload", b"no form", **JSON)
    assert status == 400
    assert "send a form: Content-Type: multipart/form-data" in json.loads(raw)["error"]["message"]


def test_too_many_pixels_are_refused_before_one_is_decoded(monkeypatch):
    replica = replica_with(limits=small(request_pixels=30, pixels=20))
    decoded = []
    monkeypatch.setattr(replica.state.reader, "prepare", decoded.append)
    status, found = post(replica, "/v1/embeddings", {"input": [uri(1), uri(2), uri(3), uri(4)]})
    assert (status, found["error"]["param"]) == (413, "input[3]")
    assert decoded == []


def test_the_page_answers_head(replica):
    status, headers, raw = request(replica, "HEAD", "/")
    assert (status, raw) == (200, b"")
    assert headers["content-type"].startswith("text/html")
