"""Waiting for an object store that does not answer for a while: restarted, overloaded, cut off."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import TypeVar

from momo_platform.application import variable

T = TypeVar("T")
logger = logging.getLogger(__name__)
SECONDS = variable("STORAGE_PATIENCE")
_DEFAULT_SECONDS = 300.0
_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
# How pyarrow's S3 and GCS name what may pass; it has tried for some seconds itself by then.
_PASSING = (
    *("NETWORK_CONNECTION", "INTERNAL_FAILURE", "SERVICE_UNAVAILABLE", "SLOW_DOWN", "THROTTLING"),
    *("REQUEST_TIMEOUT", "HTTP status 5", "UNAVAILABLE", "DEADLINE_EXCEEDED", "curlCode"),
)


def may_pass(error: OSError) -> bool:
    """Whether an object store's error is one of being away, not of what was asked."""
    return type(error) is OSError and any(word in str(error) for word in _PASSING)


def patiently(call: Callable[[], T]) -> T:
    """`call()`, again and again while the store is away, for `SECONDS` of the environment (300).

    It must be one that can be repeated. Raises the last error then, any other at once.
    """
    deadline: float | None = None
    pause = _PAUSE
    while True:
        try:
            return call()
        except OSError as error:
            if not may_pass(error):
                raise
            now = time.monotonic()
            if deadline is None:
                seconds = float(os.environ.get(SECONDS, _DEFAULT_SECONDS))
                deadline = now + seconds
                logger.warning("%s; tried again for up to %.0f s (%s)", error, seconds, SECONDS)
            if now >= deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
