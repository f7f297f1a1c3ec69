"""What the tests of both kinds of leases share."""

import pytest

from momo_platform.stages.liveness import HEARTBEAT_SECONDS, Watch


@pytest.fixture
def looks(monkeypatch):
    """Every look is a heartbeat's time after the one before, and thirty seconds pass soon."""
    now = [0.0]

    def clock():
        now[0] += HEARTBEAT_SECONDS
        return now[0]

    monkeypatch.setattr(Watch.__init__, "__defaults__", (clock,))
