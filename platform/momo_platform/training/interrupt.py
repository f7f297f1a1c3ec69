"""SIGTERM (a spot machine is taken back): finish the step, save, leave. No torch."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

_requested = threading.Event()
_training = threading.Event()
_previous: Any = signal.SIG_DFL


class TrainingInterrupted(RuntimeError):
    """The run was asked to stop; it left a checkpoint and the next run goes on there."""


def requested() -> bool:
    """Whether this process was asked to stop since `install`."""
    return _requested.is_set()


def begin() -> None:
    """From now on until `end`, a first SIGTERM only asks to stop."""
    _training.set()


def end() -> None:
    """From now on SIGTERM does what it did before `install`."""
    _training.clear()


def leave(seconds: float) -> None:
    """Ask to stop, and wait until training has saved and ended, at most so long."""
    _requested.set()
    end = time.monotonic() + seconds
    while _training.is_set() and time.monotonic() < end:
        time.sleep(0.05)


def install() -> None:
    """Handle SIGTERM. On the process's main thread only (Python's rule); twice is harmless."""
    global _previous
    _requested.clear()
    current = signal.getsignal(signal.SIGTERM)
    if current is not _handle:
        _previous = current
        signal.signal(signal.SIGTERM, _handle)


def _handle(number: int, frame: FrameType | None) -> None:
    if _training.is_set() and not _requested.is_set():
        _requested.set()
    elif callable(_previous):
        _previous(number, frame)
    else:
        signal.signal(number, _previous if _previous is not None else signal.SIG_DFL)
        signal.raise_signal(number)
