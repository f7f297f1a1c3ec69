"""What stands before the replicas: its own answers are the endpoint's, in JSON."""

import json
import socket

import pytest

LINE = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"


def raw(port, sent):
    """(status, headers, body) of bytes as they are."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        found = b""
        while part := connection.recv(65_536):
            found += part
    head, _, body = found.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.lower(), body


@pytest.mark.parametrize(
    "sent, status",
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (LINE + b"X: " + b"x" * 200_000 + b"\r\n\r\n", 400),
        (LINE + b"Content-Length: -1\r\n\r\n", 400),
        (LINE + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (LINE + JSON + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (LINE + JSON + b"Transfer-Encoding: nonsense\r\n\r\n", 422),
        (b"BREW /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405),
        (LINE.replace(b"localhost", b"evil.example") + b"Connection: close\r\n\r\n", 403),
    ],
)
def test_what_is_no_request_is_answered_in_json(endpoint, sent, status):
    found, head, body = raw(endpoint[0].port, sent)
    assert found == status, (head, body)
    assert b"content-type: application/json" in head
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["code"], str)
    assert b"nosniff" in head
