"""Tells in a line where Ray dies under a command, which Ray itself does not."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from momo_platform.ray_internals import connection, dead_processes
from momo_platform.silence import tell

AGAIN = "run the same command again: it goes on where it was"

_LOOK_SECONDS = 1.0
# The main thread ends a run by itself, and gives its leases back, unless a call of Ray holds it:
# one that asks a dead GCS never returns.
_GRACE_SECONDS = 15.0
_SILENT_SECONDS = 30.0  # of a cluster's head; Ray ends the process after 60


def dead_process() -> str:
    """Which process of the Ray that this one started has died; '' while all live that matter."""
    return next((name for name in dead_processes() if name in ("raylet", "gcs_server")), "")


def watch_ray(answers: Callable[[], bool] | None = None) -> None:
    """Watch the Ray that this process is connected to, in a thread, until it is disconnected.
    `answers`: does the head of a cluster; None where this process started its own Ray."""
    thread = threading.Thread(
        target=_watch, args=(connection(), answers), name="ray-watch", daemon=True
    )
    thread.start()


def _watch(ours: object, answers: Callable[[], bool] | None) -> None:
    answered = time.monotonic()
    while connection() is ours:
        time.sleep(_LOOK_SECONDS)
        if answers is None:
            if name := dead_process():
                _end(ours, name)
                return
        elif answers():
            answered = time.monotonic()
        elif time.monotonic() - answered > _SILENT_SECONDS:
            tell(
                "the cluster's head does not answer; if that lasts, Ray ends this process. Once "
                f"the head is back, {AGAIN}"
            )
            return


def _end(ours: object, name: str) -> None:
    time.sleep(_GRACE_SECONDS)
    if connection() is ours:
        try:
            tell(f"Ray ended under the run (its {name} died); {AGAIN}")
        finally:
            os._exit(1)
