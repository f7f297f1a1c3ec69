"""For all tests."""

import os
import secrets
import signal
import sys
from pathlib import Path

import pytest

# Started with `&` from a script, a process ignores Ctrl-C, and so would the runs that tests stop.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# One token for all of a session's clusters: Ray reads it, and whether there is one, once a process.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@pytest.fixture(scope="session")
def ray_local():
    """Ray with two CPUs; ended with the session."""
    import ray

    from momo_platform.serving.front import use_haproxy

    use_haproxy()  # Serve's tests go the way that requests go
    # Workers take their import path from the environment, not from pytest's `pythonpath`.
    here = Path(__file__).parent / "platform"
    paths = [
        str(here),
        str(here / "stages"),
        str(here / "data"),
        str(here / "sweeps"),
        *(path for path in sys.path if path),
    ]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield ray
    ray.shutdown()


@pytest.fixture
def browser(tmp_path):
    """Headless Chromium; the test is skipped where it can't be."""
    import browsers

    if browsers.CHROMIUM is None or browsers.DRIVER is None:
        pytest.skip("chromium and chromedriver (Debian: chromium, chromium-driver) not installed")
    with browsers.start(tmp_path / "profile") as driver:
        yield driver


@pytest.fixture(autouse=True)
def _preparations_run_here(request, monkeypatch):
    """Of tests that don't ask for Ray, whichever test has started it before."""
    if "ray_local" not in request.fixturenames:
        monkeypatch.setattr("momo_platform.data.tasks._on_ray", lambda: False)
