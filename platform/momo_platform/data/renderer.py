"""SVG, drawn in a process of its own: where it crashes, allocates or takes for ever, one row goes.

A deep nesting overflows resvg's stack and a filter may run for hours; neither can be caught inside
of the process. This file is also that process's program: it imports nothing of the platform.
"""

from __future__ import annotations

import os
import resource
import signal
import struct
import subprocess
import sys
from functools import lru_cache
from typing import IO, Any
from xml.parsers import expat

SECONDS = 20
"""Of one picture."""
_MEMORY = 2**31
_DRAWN_BY_REFERENCE = {
    *("image", "feImage", "use", "pattern", "linearGradient", "radialGradient", "filter"),
    *("textPath", "tref"),
}
_REQUEST, _ANSWER = struct.Struct("<QII"), struct.Struct("<Q?")


class RenderError(ValueError):
    """Why an SVG can't be drawn."""


class Renderer:
    """One such process, started again after each that ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def draw(self, svg: str, size: int) -> bytes:
        """A PNG that fits into `size` × `size`. Raises RenderError."""
        if self._process is None:
            command = [sys.executable, "-P", __file__]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
            )
        process, raw = self._process, svg.encode()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(_REQUEST.pack(len(raw), size, SECONDS) + raw)
            process.stdin.flush()
            length, good = _ANSWER.unpack(_exactly(process.stdout, _ANSWER.size))
            answer = _exactly(process.stdout, length)
        except (EOFError, BrokenPipeError):
            self._process = None
            code = process.wait()
            if code == -signal.SIGALRM:
                raise RenderError(f"drawing took longer than {SECONDS} s") from None
            raise RenderError(f"the renderer crashed ({_ending(code)})") from None
        if not good:
            raise RenderError(answer.decode())
        return answer


@lru_cache(maxsize=1)
def _renderer_of(process: int) -> Renderer:
    return Renderer()


def draw(svg: str, size: int) -> bytes:
    """`Renderer.draw` by this process's own."""
    return _renderer_of(os.getpid()).draw(svg, size)


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def _exactly(stream: IO[Any], count: int) -> bytes:
    raw = stream.read(count)
    if len(raw) < count:
        raise EOFError
    return raw


def _outside(svg: str) -> str | None:
    """What an SVG draws that is not in it, or None. Links to click on do not count. Raises
    ValueError for what is no XML."""
    found: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if name.rpartition(":")[2] not in _DRAWN_BY_REFERENCE:
            return
        for key, value in attributes.items():
            inside = value.strip()[:5].lower()
            if (
                key.rpartition(":")[2] == "href"
                and inside
                and not inside.startswith(("#", "data:"))
            ):
                found.append(value.strip())

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    try:
        parser.Parse(svg, True)
    except expat.ExpatError as error:
        raise ValueError(str(error)) from None
    return found[0] if found else None


def _drawn(svg: str, size: int) -> bytes:
    import resvg_py

    if (place := _outside(svg)) is not None:
        raise ValueError(f"it draws {place[:200]!r}, which is outside of it; embed it as data:")
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size))


def _serve() -> None:
    """Answer requests until there are none. An alarm ends the process in the middle of a call."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while header := requests.read(_REQUEST.size):
        length, size, seconds = _REQUEST.unpack(header)
        svg = _exactly(requests, length).decode()
        signal.alarm(seconds)
        try:
            answer, good = _drawn(svg, size), True
        except (ValueError, MemoryError) as error:
            answer, good = str(error).encode(), False
        signal.alarm(0)
        answers.write(_ANSWER.pack(len(answer), good) + answer)
        answers.flush()


if __name__ == "__main__":
    _serve()
