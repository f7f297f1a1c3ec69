"""Rerank and zero-shot classes over the toy model: a text's vector is [length, 3]."""

import numpy as np
import pytest
from toy_app import post, replica_with, small, uri


@pytest.fixture(scope="module")
def replica():
    return replica_with(limits=small(items=8))


def test_as_many_documents_as_are_allowed(replica):
    status, found = post(replica, "/v1/rerank", {"query": "a", "documents": ["b"] * 8})
    assert (status, len(found["results"])) == (200, 8)


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_documents_come_best_first_with_their_place_and_cosine(replica, path):
    body = {"query": "abcd", "documents": ["a", "abcde", {"text": "abc"}, uri(4)], "model": "toy"}
    status, found = post(replica, path, body)
    assert status == 200, found
    cosines = [4 * 1 + 9, 4 * 5 + 9, 4 * 3 + 9, 4 * 4]
    order = np.argsort(cosines)[::-1]
    assert [row["index"] for row in found["results"]] == order.tolist()
    assert [row["relevance_score"] for row in found["results"]] == sorted(cosines)[::-1]
    assert found["usage"]["total_tokens"] == 4 + 1 + 5 + 3
    assert found["model"] == "toy"
    assert found["id"]


def test_the_best_n_come_with_their_texts_where_asked(replica):
    body = {"query": "abcd", "documents": ["a", "abcde", uri(4)], "top_n": 2}
    _, found = post(replica, "/v1/rerank", body | {"return_documents": True})
    assert [row["document"] for row in found["results"]] == [{"text": "abcde"}, {}]
    _, found = post(replica, "/v1/rerank", body | {"top_n": 20})
    assert len(found["results"]) == 3
    assert "document" not in found["results"][0]
    _, found = post(replica, "/v1/rerank", {"query": "abcdefg", "documents": ["abcdef"]})
    assert found["truncated"] == ["query", "documents[0]"]


@pytest.mark.parametrize(
    "path, body, status, param",
    [
        ("rerank", {"query": "a", "documents": []}, 400, "documents"),
        ("rerank", {"query": "a", "documents": ["b"] * 9}, 413, "documents"),
        ("rerank", {"query": "a", "documents": ["b"], "top_n": 0}, 400, "top_n"),
        ("rerank", {"query": "a", "documents": ["b", 3]}, 400, "documents[1]"),
        ("rerank", {"query": "a", "texts": ["b"]}, 400, "documents"),
        ("classify", {"input": "a"}, 400, "labels"),
        ("classify", {"input": "a", "labels": []}, 400, "labels"),
        ("classify", {"input": "a", "labels": ["x", " "]}, 400, "labels[1]"),
        ("classify", {"input": "a", "labels": ["x", "x "]}, 400, "labels"),
        ("classify", {"input": "a", "labels": ["x"], "template": "a"}, 400, "template"),
        ("classify", {"input": "a", "labels": ["x"], "model": "gpt"}, 404, "model"),
        ("classify", {"input": "a", "labels": ["x"] * 20}, 400, "labels"),
        ("classify", {"input": "a", "labels": [*"123456789"]}, 413, "labels"),
        ("classify", {"input": "a", "labels": ["x", uri(1)[:60]]}, 400, "labels[1]"),
        ("classify", {"input": "a", "labels": ["x", "y"], "template": "{}" * 51}, 413, "template"),
        ("classify", {"input": ["a"] * 8, "labels": ["x" * 44, "y" * 44]}, 413, "labels"),
        ("rerank", {"query": "a" * 60, "documents": ["b" * 60]}, 413, "documents"),
    ],
)
def test_a_refusal_names_the_field(replica, path, body, status, param):
    found, answer = post(replica, f"/v1/{path}", body)
    assert (found, answer["error"]["param"]) == (status, param), answer
    assert replica.queued == 0


def test_labels_make_classes_of_what_lies_nearest(replica):
    body = {"input": ["a", uri(2)], "labels": ["x", "xyz"], "template": "{}!"}
    status, found = post(replica, "/v1/classify", body)
    assert status == 200, found
    vectors = np.array([[1, 3], [2, 0]])
    logits = vectors @ np.array([[2, 3], [4, 3]]).T
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    for row, expected in zip(found["data"], odds, strict=True):
        np.testing.assert_allclose([row["scores"]["x"], row["scores"]["xyz"]], expected, atol=1e-6)
        assert (row["label"], row["score"]) == ("xyz", pytest.approx(expected[1], abs=1e-6))
