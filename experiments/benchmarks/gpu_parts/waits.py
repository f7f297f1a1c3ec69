"""Where a program waits for the GPU: counted by line, by torch's own warnings."""

from __future__ import annotations

import collections
import contextlib
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

_OWN = tuple(str(Path(__file__).resolve().parents[3] / part) for part in ("momo", "platform"))
_MESSAGE = "synchronizing CUDA operation"


def _line() -> str:
    """The innermost line of our own packages that is being executed."""
    for frame in reversed(traceback.extract_stack()):
        if frame.filename.startswith(_OWN):
            place = Path(frame.filename)
            return f"{place.parent.name}/{place.name}:{frame.lineno} {frame.line or ''}".strip()
    return "elsewhere"


class Waits:
    """Counts while it is on; those of the autograd engine's threads are told to the line that
    called `backward`."""

    def __init__(self) -> None:
        self.by_line: collections.Counter[str] = collections.Counter()
        self._stack = contextlib.ExitStack()

    @property
    def total(self) -> int:
        """Waits so far."""
        return sum(self.by_line.values())

    def start(self) -> None:
        """From now on waits are counted."""
        self._stack.enter_context(self._counting())

    def stop(self) -> None:
        """As it was before `start`."""
        self._stack.close()

    @contextlib.contextmanager
    def _counting(self) -> Iterator[None]:
        def show(message: Any, *details: Any, **more: Any) -> None:
            if _MESSAGE in str(message):
                self.by_line[_line()] += 1
            else:
                shown(message, *details, **more)

        cuda = torch.cuda.is_available()
        with warnings.catch_warnings():
            shown = warnings.showwarning
            warnings.simplefilter("always")
            warnings.showwarning = show
            if cuda:
                torch.cuda.set_sync_debug_mode("warn")
            try:
                yield
            finally:
                if cuda:
                    torch.cuda.set_sync_debug_mode("default")
