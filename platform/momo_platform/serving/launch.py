"""Starting the application on Ray Serve, also on a machine that is busy with other things, and
ending it."""

from __future__ import annotations

import contextlib
import os
import time
import urllib.request
from typing import Any

from momo_platform.cores import usable_cores
from momo_platform.stages.errors import UserError

SECONDS = 300.0
"""Until it is given up. Serve itself gives its proxies 60, and raises then."""
_STOP_SECONDS = 30.0


def launch(application: Any, name: str, host: str, port: int, seconds: float = SECONDS) -> None:
    """Start Serve where it does not run, and the application; returns when it answers.

    Raises UserError with one line when its processes don't come up within `seconds`, or can't.
    """
    from ray import serve
    from ray.exceptions import RayError

    end = time.monotonic() + seconds
    is_late = False
    try:
        with contextlib.suppress(TimeoutError):  # of its proxies: the application waits for them
            serve.start(
                http_options={"host": host, "port": port},
                logging_config={"enable_access_log": False},
            )
        try:
            serve.run(application, name=name, route_prefix="/")
        except TimeoutError:  # of its proxies: running it again would start its replicas anew
            is_late = True
    except (RayError, RuntimeError) as error:
        raise UserError(f"the endpoint did not start: {_last_line(error)}") from error
    url = f"http://{os.environ.get('FRONT_HOST', host)}:{port}/healthz"
    while is_late and not _answers(url):
        if time.monotonic() > end:
            raise UserError(
                f"the endpoint did not come up within {seconds:g} s (load {os.getloadavg()[0]:.0f} "
                f"on {usable_cores():g} cores): end what else runs here, and start it again"
            )
        time.sleep(1)


def stop(name: str) -> None:
    """End the application once its requests are answered, then Serve and what stands before it.

    Serve's own `shutdown` waits by a call of its controller that ends with it, and Ray then tells
    of a task that failed.
    """
    import ray
    from ray import serve
    from ray.exceptions import RayError

    end = time.monotonic() + _STOP_SECONDS
    with contextlib.suppress(ValueError, RayError):  # it is gone, or never was there
        controller = ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
        serve.delete(name)
        ray.get(controller.graceful_shutdown.remote(wait=False), timeout=_STOP_SECONDS)
        while time.monotonic() < end:
            ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
            time.sleep(0.2)
    serve.shutdown()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status == 200
    except OSError:
        return False


def _last_line(error: BaseException) -> str:
    """What a long message ends with: where a process failed, its error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:500] if lines else type(error).__name__
