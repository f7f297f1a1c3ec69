"""What tests of the whole pipeline share."""

import pytest


@pytest.fixture(scope="session")
def smoke_runs(tmp_path_factory):
    """The storage of the full run of preset smoke; empty where that was not run."""
    return tmp_path_factory.mktemp("smoke") / "runs"
