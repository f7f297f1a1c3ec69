"""Counters of several replicas in one scrape."""

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


def test_a_replica_alone_has_the_label_too():
    replica = replica_with()
    assert post(replica, "/v1/embeddings", {"input": "a"})[0] == 200
    _, _, raw = request(replica, "GET", "/metrics")
    families = list(text_string_to_metric_families(raw.decode()))
    assert {s.labels["replica"] for f in families for s in f.samples} == {"alone"}
