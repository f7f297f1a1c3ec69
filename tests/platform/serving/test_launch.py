"""Starts on Serve that take longer than it waits, and those that fail: a line for people."""

import http.server
import threading

import pytest
from ray import serve

from momo_platform.machine import free_ports
from momo_platform.serving.launch import launch
from momo_platform.stages import UserError


@pytest.fixture
def slow_serve(monkeypatch):
    """Serve whose proxies never come within its own time; what it was asked for."""
    asked = []

    def late(name):
        def call(*_, **__):
            asked.append(name)
            raise TimeoutError("HTTP proxies not available after 60s.")

        return call

    for name in ("start", "run"):
        monkeypatch.setattr(serve, name, late(name))
    monkeypatch.delenv("FRONT_HOST", raising=False)
    return asked


def test_proxies_that_come_late_are_waited_for_and_nothing_is_started_twice(slow_serve):
    class Health(http.server.BaseHTTPRequestHandler):
        answers = 0

        def do_GET(self):
            Health.answers += 1
            self.send_response(200 if Health.answers > 1 else 503)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Health)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        launch(None, "x", "127.0.0.1", server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert slow_serve == ["start", "run"]
    assert Health.answers == 2


def test_one_line_says_that_the_machine_is_too_busy(slow_serve):
    (port,) = free_ports(1)
    with pytest.raises(UserError, match=r"within 0 s \(load \d+ on .* cores\): end what") as told:
        launch(None, "x", "127.0.0.1", port, seconds=0)
    assert "\n" not in str(told.value)


def test_replicas_that_fail_tell_their_error_alone(monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("Deploying failed:\nTraceback\n  File x\nValueError: no such weights\n")

    monkeypatch.setattr(serve, "start", lambda **_: None)
    monkeypatch.setattr(serve, "run", fails)
    with pytest.raises(UserError, match="^the endpoint did not start: ValueError: no such weights"):
        launch(None, "x", "127.0.0.1", 1)
