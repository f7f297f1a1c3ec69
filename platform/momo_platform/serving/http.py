"""Around the application: body limits, security headers, errors in one shape."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from momo_platform.serving import runtime
from momo_platform.serving.config import Limits, ServingConfig, is_known
from momo_platform.serving.direct import refusal
from momo_platform.serving.errors import ServiceRefusal, error_body
from momo_platform.serving.hosts import is_allowed, name_in
from momo_platform.serving.openapi import needs_key
from momo_platform.serving.shapes import check_messages, check_shapes
from momo_platform.serving.tracing import RequestSpan, Tracer

logger = logging.getLogger(__name__)
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
_ALSO = {401: [(b"www-authenticate", b"Bearer")], 408: [(b"connection", b"close")]}
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
]


class _TooSlow(BaseException):
    """A body that does not come; past whatever handles errors of a request's content."""


class Guard:
    """ASGI middleware around everything. Security headers on every answer; the host's name, and a
    key where keys are asked for, are looked at before the body; a body above the limit is refused
    with 413, also where its length was not told or was false; what nobody handled is 500 without
    details. A request is a span of `tracer`'s."""

    def __init__(self, app: Any, config: ServingConfig, tracer: Tracer | None = None) -> None:
        self.app, self.config, self.tracer = app, config, tracer or Tracer()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with self.tracer.request(scope["method"], dict(scope["headers"])) as span:
            await self._guarded(scope, receive, send, span)

    async def _guarded(
        self, scope: Message, receive: Receive, send: Send, span: RequestSpan
    ) -> None:
        limits = self.config.limits
        seen, started, replaced, whole = 0, False, False, False
        begun = time.perf_counter()

        async def guarded_send(message: Message) -> None:
            nonlocal started, replaced
            if replaced:
                return
            if message["type"] == "http.response.start":
                if seen > limits.body_bytes:
                    replaced = True
                    await _refuse(answer, *self._too_large)
                    return
                started = True
            await answer(message)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                _note(scope, int(message["status"]), time.perf_counter() - begun, span)
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        async def guarded_receive() -> Message:
            nonlocal seen, whole
            if whole:  # what comes now is the end of the connection
                return await receive()
            left = limits.seconds - (time.perf_counter() - begun)
            try:
                async with asyncio.timeout(left):  # wait_for makes a task of each message
                    message = await receive()
            except TimeoutError:
                raise _TooSlow from None
            if message["type"] == "http.request":
                whole = not message.get("more_body", False)
                seen += len(message.get("body", b""))
                if seen > limits.body_bytes:  # nothing more is kept; the answer becomes a refusal
                    return {"type": "http.request", "body": b"", "more_body": False}
            return message

        if (told := self._refusal(scope)) is not None:
            await _refuse(answer, *told)
            return
        try:
            await self.app(scope, guarded_receive, guarded_send)
        except _TooSlow:
            if not started and not replaced:
                told = f"the body did not come within {limits.seconds:g} s"
                await _refuse(answer, 408, told)
        except Exception:
            logger.exception("a request failed")
            if not started and not replaced:
                await _refuse(answer, 500, "the service failed; its log says why")

    @property
    def _checks_hosts(self) -> bool:
        """With keys a stranger's page gets nothing under any name."""
        return bool(self.config.allowed_hosts) or not self.config.keys

    @property
    def _too_large(self) -> tuple[int, str]:
        return 413, f"the body is larger than {self.config.limits.body_bytes} bytes"

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
        """By the headers alone."""
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if host and self._checks_hosts and not is_allowed(host, self.config.allowed_hosts):
            name = name_in(host)[:100]
            return 403, f"this endpoint is not called {name}: start it with --allowed-hosts {name}"
        if not _has_key(scope["path"], headers, self.config):
            return 401, "give a known key as Authorization: Bearer KEY"
        told = headers.get(b"content-length", b"0")
        is_large = told.isdigit() and int(told) > self.config.limits.body_bytes
        return self._too_large if is_large else None


def _has_key(path: str, headers: dict[bytes, bytes], config: ServingConfig) -> bool:
    """Whether a request may go on: health and the page are open, all else asks for a key where
    there are keys."""
    if not config.keys or not needs_key(path):
        return True
    kind, _, key = headers.get(b"authorization", b"").decode("utf-8", "replace").partition(" ")
    return kind.lower() == "bearer" and is_known(key.strip(), config.keys)


def _note(scope: Message, status: int, seconds: float, span: RequestSpan) -> None:
    """Count the answer; paths that are none of ours are one."""
    route = scope.get("route")
    path = getattr(route, "path", "other")
    runtime.REQUESTS.labels(path, status).inc()
    runtime.SECONDS.labels(path).observe(seconds)
    span.answered(scope["method"], path, status)


async def _refuse(send: Send, status: int, message: str) -> None:
    body = json.dumps(error_body(status, message)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += _ALSO.get(status, [])
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def refused(request: Request, error: Exception) -> Response:
    """A ServiceRefusal as it is."""
    assert isinstance(error, ServiceRefusal)
    return refusal(error)


async def invalid(limits: Limits, request: Request, error: Exception) -> Response:
    """The first thing that the request's schema refuses, without what was sent."""
    assert isinstance(error, RequestValidationError)
    if told := _wrong_kind(request):
        return JSONResponse(error_body(400, told), 400)
    if isinstance(error.body, dict):  # say it as what reads the items does, where it can
        try:
            for name in ("input", "a", "b", "query", "documents"):
                if error.body.get(name) is not None:
                    check_shapes(error.body[name], limits, name)
            if error.body.get("messages") is not None:
                check_messages(error.body["messages"])
        except ServiceRefusal as told:
            return refusal(told)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")[:200]
    if first["type"] == "json_invalid":
        place, first["msg"] = "", "it is not JSON"
    if first["type"] == "extra_forbidden":
        first["msg"] = "it is unknown here, and would change nothing: leave it out"
    message = f"{place or 'the body'}: {first['msg']}"[:500]
    return JSONResponse(error_body(400, message, place or None), 400)


def _wrong_kind(request: Request) -> str:
    """What to send where the Content-Type says that the body is something else; ''."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.url.path.endswith("/upload"):
        if kind == "multipart/form-data":
            return ""
        return "send a form: Content-Type: multipart/form-data (curl -F image=@picture.png)"
    if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        return ""
    said = f"its Content-Type is {kind[:60]}" if kind else "it has no Content-Type"
    return f"the body: {said}: send JSON with the header Content-Type: application/json"


async def http_error(request: Request, error: Exception) -> JSONResponse:
    """404, 405 and their kind."""
    assert isinstance(error, HTTPException)
    status = error.status_code
    told = str(error.detail)
    if status == 400 and (wrong := _wrong_kind(request)):
        told = wrong
    return JSONResponse(error_body(status, told), status, error.headers)


def add_error_handlers(app: FastAPI, limits: Limits) -> None:
    """Every error as OpenAI's JSON, without what was sent, paths or traces."""
    app.add_exception_handler(ServiceRefusal, refused)
    app.add_exception_handler(RequestValidationError, partial(invalid, limits))
    app.add_exception_handler(HTTPException, http_error)
