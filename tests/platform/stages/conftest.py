"""What tests of stages and leases share."""

import uuid

import pytest

from momo_platform.stages import open_storage
from momo_platform.stages.liveness import HEARTBEAT_SECONDS, Watch


@pytest.fixture
def looks(monkeypatch):
    """Every look is a heartbeat's time after the one before, and thirty seconds pass soon."""
    now = [0.0]

    def clock():
        now[0] += HEARTBEAT_SECONDS
        return now[0]

    monkeypatch.setattr(Watch.__init__, "__defaults__", (clock,))


@pytest.fixture(params=["folder", "bucket"])
def storage(request, tmp_path, monkeypatch):
    """One in each kind of place."""
    if request.param == "folder":
        return open_storage(tmp_path / "runs")
    request.getfixturevalue("s3_environment")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return open_storage(f"s3://corpora/{uuid.uuid4().hex}/runs")
