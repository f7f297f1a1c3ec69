"""Who may ask: names of the endpoint, pages of other origins, keys; and what the document says."""

import json

import pytest
from toy_app import JSON, post, replica_with, request

from momo_platform.serving.config import ServingConfig, hashed
from momo_platform.serving.hosts import is_allowed


@pytest.mark.parametrize(
    "host, allowed, expected",
    [
        ("127.0.0.1:8000", (), True),
        ("localhost", (), True),
        ("LocalHost:80", (), True),
        ("momo.localhost:80", (), True),
        ("[::1]:8000", (), True),
        ("10.0.0.7:8000", (), True),
        ("evil.example", (), False),
        ("evil.example:8000", (), False),
        ("127.0.0.1.evil.example", (), False),
        ("localhost.evil.example", (), False),
        ("serve.lan:8000", ("serve.lan",), True),
        ("Serve.LAN.", ("serve.lan",), True),
        ("x.serve.lan", ("serve.lan",), False),
        ("anything", ("*",), True),
    ],
)
def test_names_are_loopbacks_addresses_or_allowed(host, allowed, expected):
    assert is_allowed(host, allowed) is expected


@pytest.fixture(scope="module")
def open_one():
    return replica_with(cors_origins=("https://mine.example",))


@pytest.fixture(scope="module")
def with_keys():
    return replica_with(keys=(hashed("sesame"),))


def test_a_page_whose_name_was_made_to_resolve_here_reads_nothing(open_one):
    body = {"input": "a"}
    status, found = post(open_one, "/v1/embeddings", body, host="evil.example:8000")
    assert (status, found["error"]["code"]) == (403, "host_not_allowed")
    assert "--allowed-hosts evil.example" in found["error"]["message"]
    assert request(open_one, "GET", "/", host="evil.example")[0] == 403
    assert post(open_one, "/v1/embeddings", body, host="127.0.0.1:8000")[0] == 200


def test_pages_of_allowed_origins_may_ask_and_others_get_no_leave(open_one):
    asks = {"access-control-request-method": "POST", "host": "localhost"}
    asks["access-control-request-headers"] = "authorization,content-type,x-stainless-os"
    for origin, leave in (("https://mine.example", True), ("https://evil.example", False)):
        status, headers, _ = request(open_one, "OPTIONS", "/v1/embeddings", origin=origin, **asks)
        assert (status == 200) is leave
        assert ("access-control-allow-origin" in headers) is leave
        _, headers, _ = request(
            open_one, "POST", "/v1/embeddings", b'{"input": "a"}', **JSON, origin=origin
        )
        assert (headers.get("access-control-allow-origin") == origin) is leave
    with pytest.raises(ValueError, match="cors_origins='\\*': give origins"):
        ServingConfig("m", cors_origins=("*",))


def test_with_keys_all_but_health_and_the_page_asks_for_one(with_keys):
    for path in ("/v1/rerank", "/v2/rerank", "/rerank", "/v1/classify", "/v1/embeddings"):
        status, found = post(with_keys, path, {})
        assert (status, found["error"]["code"]) == (401, "invalid_api_key")
    for path, status in (("/v1/models", 401), ("/metrics", 401), ("/healthz", 200), ("/docs", 200)):
        assert request(with_keys, "GET", path)[0] == status
    key = {"authorization": "Bearer sesame"}
    body = {"query": "a", "documents": ["b"]}
    assert post(with_keys, "/rerank", body, **key)[0] == 200
    # a stranger's page has no key: a name behind which the machine is reached needs no option
    assert post(with_keys, "/v1/embeddings", {"input": "a"}, host="x.example", **key)[0] == 200


@pytest.mark.parametrize("keys", [True, False])
def test_the_document_says_how_a_key_is_sent(open_one, with_keys, keys):
    _, _, raw = request(with_keys if keys else open_one, "GET", "/openapi.json")
    document = json.loads(raw)
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    call = document["paths"]["/v1/embeddings"]["post"]
    assert call["security"] == ([{"key": []}] if keys else [{}, {"key": []}])
    assert "security" not in document["paths"]["/healthz"]["get"]
    assert {"400", "413", "415"} <= set(call["responses"])
    assert "422" not in call["responses"]
