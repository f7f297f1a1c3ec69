"""Spans of a request, in memory and at a collector; without one nothing of it is imported."""

import asyncio
import http.server
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from toy_app import LOADERS, post

from momo_platform.serving.config import ServingConfig
from momo_platform.serving.replica import Replica
from momo_platform.serving.tracing import Tracer

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def replica_with(tracer):
    found = Replica(LOADERS, ServingConfig("here"))
    found.tracer = tracer
    asyncio.run(found.load({"model": "here"}, "cpu"))
    return found


def test_a_request_is_a_span_of_its_caller_with_reading_and_the_model_inside():
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    replica = replica_with(Tracer(provider))
    assert post(replica, "/v1/embeddings", {"input": "a"}, traceparent=PARENT)[0] == 200
    assert post(replica, "/v1/nothing", {})[0] == 404
    read, encode, whole, other = exporter.get_finished_spans()
    assert [s.name for s in (read, encode, whole)] == ["read", "encode", "POST /v1/embeddings"]
    assert other.name == "POST other"
    for span in (read, encode):
        assert span.parent.span_id == whole.context.span_id
    assert f"{whole.context.trace_id:032x}" == PARENT.split("-")[1]
    assert f"{whole.parent.span_id:016x}" == PARENT.split("-")[2]
    assert whole.attributes["http.response.status_code"] == 200
    assert dict(encode.attributes) == {"kind": "text", "items": 1}
    assert other.parent is None


@pytest.fixture
def collector():
    """(address, received requests) of an OTLP collector."""
    received = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    server.server_close()
    thread.join()


def test_spans_reach_the_collector_that_the_environment_names(collector, monkeypatch):
    url, received = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    replica = replica_with(Tracer.from_environment())
    assert post(replica, "/v1/embeddings", {"input": "a"})[0] == 200
    replica.tracer.close()
    (path, told) = received[0]
    assert path == "/v1/traces"
    (spans,) = told.resource_spans
    named = {a.key: a.value.string_value for a in spans.resource.attributes}
    assert named["service.name"] == "ours"
    names = [span.name for scope in spans.scope_spans for span in scope.spans]
    assert sorted(names) == ["POST /v1/embeddings", "encode", "read"]


def test_without_a_collector_nothing_of_it_is_imported():
    code = (
        "import sys; from momo_platform.serving.tracing import Tracer\n"
        "t = Tracer.from_environment()\n"
        "with t.span('x'), t.request('GET', {}) as s: s.answered('GET', '/', 200)\n"
        "t.close(); assert not [m for m in sys.modules if m.startswith('opentelemetry')]"
    )
    root = Path(__file__).parents[3]
    env = {"PYTHONPATH": str(root / "platform"), "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)


def test_a_collector_without_the_packages_says_what_to_install(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(RuntimeError, match="install the extra `otel`"):
        Tracer.from_environment()
