"""Where output goes: Ray's chatter to the log, what is meant for a person to the terminal."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


class _Onlooker(io.TextIOWrapper):
    """A text stream that who reads it may leave (`| head`, a closed terminal, a full disk below
    `> file`): what is written then goes nowhere, and the run goes on, as its log and record do."""

    def __init__(self, number: int, encoding: str) -> None:
        binary = os.fdopen(number, "wb")
        super().__init__(binary, encoding=encoding, errors="replace", line_buffering=True)

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            self._to_nowhere()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            self._to_nowhere()
            super().flush()

    def close(self) -> None:
        if not self.closed:
            self.flush()
        super().close()

    def _to_nowhere(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)


def tell(text: str) -> None:
    """A line to the person, on the standard error that `silence` found; from any thread."""
    with contextlib.suppress(OSError):
        os.write(next(iter(_terminals), 2), f"\n{text}\n".encode(errors="replace"))


_terminals: list[int] = []  # where standard error went before it was sent to a log


@contextlib.contextmanager
def silence(log_path: Path, *, verbose: bool = False) -> Iterator[TextIO]:
    """Send this process' output, Ray's chatter included, to `log_path`; yield the real stdout.

    Works on file descriptors 1 and 2, so that native code and child processes are caught too.
    They are restored whatever happens. With `verbose` nothing is redirected. Whoever reads the
    yielded stream may leave.
    """
    if not verbose:
        log_path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    stream = _Onlooker(os.dup(1), sys.stdout.encoding)
    if verbose:
        with stream:
            yield stream
        return
    saved_out, saved_err = os.dup(1), os.dup(2)
    _terminals.append(saved_err)
    try:
        with log_path.open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        yield stream
    finally:
        with contextlib.suppress(OSError):  # a full disk must not keep the terminal from us
            sys.stdout.flush()
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os.dup2(saved_out, 1)
        os.dup2(saved_err, 2)
        _terminals.remove(saved_err)
        os.close(saved_out)
        os.close(saved_err)
        stream.close()
