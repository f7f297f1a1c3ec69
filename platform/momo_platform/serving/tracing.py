"""Traces of requests by OpenTelemetry, where a collector's address is in the environment.

Off, and nothing of OpenTelemetry imported, unless OTEL_EXPORTER_OTLP_ENDPOINT (or the one for
traces alone) is set. Its other variables count too: OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, headers
and time limits of the exporter. A request is a span, with the caller's as its parent (W3C's
traceparent); inside are `read` (texts split into tokens, pictures decoded) and `encode` (waiting
for the model, and its work).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from momo_platform.application import NAME

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Tracer:
    """Makes spans with a `provider` of OpenTelemetry's SDK; None: none."""

    def __init__(self, provider: Any = None) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(NAME) if provider is not None else None

    @classmethod
    def from_environment(cls) -> Tracer:
        """Raises RuntimeError where a collector is named, but the packages are not there."""
        if not any(os.environ.get(name) for name in _ENDPOINTS):
            return cls()
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise RuntimeError(
                f"{_ENDPOINTS[0]} is set, but {error.name} is not installed: install the extra "
                "`otel`, or unset it"
            ) from error
        name = os.environ.get("OTEL_SERVICE_NAME") or NAME
        provider = TracerProvider(resource=Resource.create({"service.name": name}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    @contextmanager
    def span(self, name: str, **attributes: str | int) -> Iterator[None]:
        """What is done inside, within the span around it."""
        if self._tracer is None:
            yield
            return
        with self._tracer.start_as_current_span(name, attributes=attributes):
            yield

    @contextmanager
    def request(self, method: str, headers: Mapping[bytes, bytes]) -> Iterator[RequestSpan]:
        """A request, under the caller's span where it told of one."""
        if self._tracer is None:
            yield RequestSpan()
            return
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        told = {
            name: headers[name.encode()].decode("latin-1")
            for name in ("traceparent", "tracestate")
            if name.encode() in headers
        }
        parent = TraceContextTextMapPropagator().extract(told)
        attributes = {"http.request.method": method}
        with self._tracer.start_as_current_span(
            method, parent, SpanKind.SERVER, attributes
        ) as span:
            yield RequestSpan(span)

    def close(self) -> None:
        """Send what is not sent yet."""
        if self._provider is not None:
            self._provider.shutdown()


class RequestSpan:
    """Of one request; told what is known once it is answered."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def answered(self, method: str, route: str, status: int) -> None:
        """`route` is the path's pattern."""
        if self._span is None:
            return
        from opentelemetry.trace import StatusCode

        self._span.update_name(f"{method} {route}")
        self._span.set_attribute("http.route", route)
        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)
