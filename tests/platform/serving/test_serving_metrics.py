"""Counters of several replicas in one scrape."""

import os
import signal
from dataclasses import replace
from types import SimpleNamespace

from prometheus_client.parser import text_string_to_metric_families
from toy_app import post, replica_with, request

from momo_platform.serving.metrics import merged

ONE = """# HELP a_total Of a
# TYPE a_total counter
a_total{kind="text"} 1.0
a_total 2.0
# HELP b Of b
# TYPE b gauge
b 3.0
"""


def test_samples_of_all_replicas_stand_together_by_name():
    found = merged({"x": ONE, "y": ONE.replace("3.0", "4.0")})
    families = list(text_string_to_metric_families(found))
    assert [family.name for family in families] == ["a", "b"]
    samples = {
        (s.name, s.labels["replica"], s.labels.get("kind")): s.value
        for family in families
        for s in family.samples
    }
    assert samples["b", "x", None] == 3
    assert samples["b", "y", None] == 4
    assert samples["a_total", "y", "text"] == 1
    assert len(samples) == 6


def samples_of(replica):
    _, _, raw = request(replica, "GET", "/metrics")
    families = text_string_to_metric_families(raw.decode())
    return {(s.name, s.labels.get("kind")): s.value for f in families for s in f.samples}


def test_items_count_when_they_are_embedded_and_memory_is_all_models():
    replica = replica_with()
    before = samples_of(replica)
    body = {"input": ["a", "b"]}
    assert post(replica, "/v1/embeddings", body)[0] == 200
    encoder = replica.state.encoder
    replica._state = replace(replica.state, classifier=SimpleNamespace(resident_bytes=2**50))
    replica._state.classifier.device_bytes = 5
    found = samples_of(replica)
    assert found["momo_items_total", "text"] == before.get(("momo_items_total", "text"), 0) + 2
    assert found["momo_model_resident_bytes", None] > 2**50
    assert found["momo_model_device_bytes", None] == 5
    encoder._what = (*encoder._what[:2], "nowhere", *encoder._what[3:])
    os.kill(encoder.pid, signal.SIGKILL)
    assert post(replica, "/v1/embeddings", body)[0] == 503
    assert samples_of(replica)["momo_items_total", "text"] == found["momo_items_total", "text"]


def test_a_replica_alone_has_the_label_too():
    replica = replica_with()
    assert post(replica, "/v1/embeddings", {"input": "a"})[0] == 200
    _, _, raw = request(replica, "GET", "/metrics")
    families = list(text_string_to_metric_families(raw.decode()))
    assert {s.labels["replica"] for f in families for s in f.samples} == {"alone"}
