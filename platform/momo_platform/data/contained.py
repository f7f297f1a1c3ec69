"""Pictures prepared in a process of its own: where a decoder crashes, allocates or takes for ever,
one picture goes, and the task goes on.

The process is given some pictures at a time, and tells in a byte that both see which one it is at:
that one ended it. Then it is started again and goes on with the others.
"""

from __future__ import annotations

import mmap
import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import IO, Any

from momo_platform.data.config import ImageConfig
from momo_platform.data.images import BadImage, PreparedImage, prepare_picture

SECONDS = 20
"""Of a processor, for one picture."""
_WAIT = 10  # times as long on the clock
_MEMORY = 2**31
_AT_ONCE, _BYTES_AT_ONCE = 64, 2**23
_BUFFER = 2**16
_STARTS = 3  # where the system ended the process, not a picture
_ANSWER = struct.Struct("<?IIII")  # whether it is good, length, of it the look, width, height
_READY = b"ready"
Picture = tuple[bytes, bool]
"""Encoded bytes, and whether they are an SVG."""


class _Process:
    """One such process, started when it is needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._seconds = 0
        self._at: mmap.mmap | None = None

    def _started(self) -> tuple[subprocess.Popen[bytes], mmap.mmap]:
        if self._process is not None and self._at is not None and self._seconds == SECONDS:
            return self._process, self._at
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        with tempfile.TemporaryFile() as shared:
            shared.truncate(1)
            self._at, self._seconds = mmap.mmap(shared.fileno(), 1), SECONDS
            program = f"from {__name__} import serve; serve({SECONDS}, {shared.fileno()})"
            self._process = process = subprocess.Popen(
                [sys.executable, "-P", "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=[shared.fileno()],
                env=os.environ | threads | {"PYTHONPATH": os.pathsep.join(sys.path)},
            )
        assert process.stdout is not None
        if process.stdout.read(len(_READY)) != _READY:
            raise RuntimeError(f"pictures can't be prepared: {self._ended()}")
        return process, self._at

    def _ended(self) -> str:
        """How the process ended, which it has."""
        assert self._process is not None
        code, self._process = self._process.wait(), None
        if code in (-signal.SIGPROF, -signal.SIGALRM):
            return f"decoding it took longer than {SECONDS} s"
        name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return f"the decoder crashed ({name})"

    def prepare(
        self, pictures: Sequence[Picture], config: ImageConfig
    ) -> list[PreparedImage | BadImage]:
        """What each picture becomes, or why it can't be used."""
        found: dict[int, PreparedImage | BadImage] = {}
        starts = 0
        while left := [n for n in range(len(pictures)) if n not in found]:
            process, at = self._started()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                pickle.dump((config, [pictures[n] for n in left]), process.stdin, 5)
                process.stdin.flush()
                for number in left:
                    found[number] = _answer(process.stdout)
            except (EOFError, BrokenPipeError):
                why, number = self._ended(), left[at[0]]
                if "SIGKILL" not in why and "SIGTERM" not in why:
                    found[number] = BadImage(why)
                elif (starts := starts + 1) == _STARTS:  # for want of memory: no picture's fault
                    raise RuntimeError(f"pictures can't be prepared: {why}") from None
        return [found[n] for n in range(len(pictures))]


@lru_cache(maxsize=1)
def _process_of(process: int) -> _Process:
    return _Process()


def prepare_pictures(
    pictures: Iterable[Picture], config: ImageConfig
) -> Iterator[PreparedImage | BadImage]:
    """`images.prepare_picture` of each, or the BadImage that it raises, by this process's own. Up
    to 64 pictures are held, of 8 MB together if there are several."""
    held: list[Picture] = []
    size = 0
    for picture in pictures:
        if held and (len(held) == _AT_ONCE or size + len(picture[0]) > _BYTES_AT_ONCE):
            yield from _process_of(os.getpid()).prepare(held, config)
            held, size = [], 0
        held.append(picture)
        size += len(picture[0])
    yield from _process_of(os.getpid()).prepare(held, config)


def _answer(stream: IO[Any]) -> PreparedImage | BadImage:
    good, length, look, width, height = _ANSWER.unpack(_exactly(stream, _ANSWER.size))
    raw = _exactly(stream, length)
    if not good:
        return BadImage(raw.decode())
    return PreparedImage(raw[look:], width, height, raw[:look] or None)


def _exactly(stream: IO[Any], count: int) -> bytes:
    raw = stream.read(count)
    if len(raw) < count:
        raise EOFError
    return raw


def _answer_to(picture: Picture, config: ImageConfig) -> bytes:
    try:
        made = prepare_picture(picture[0], config, svg=picture[1])
    except BadImage as error:
        raw = str(error).encode("utf-8", "replace")
        return _ANSWER.pack(False, len(raw), 0, 0, 0) + raw
    raw = (made.look or b"") + made.image
    return _ANSWER.pack(True, len(raw), len(made.look or b""), made.width, made.height) + raw


def serve(seconds: int, shared: int) -> None:
    """That process: answer until there is nothing more. A timer ends it in the middle of a call."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    at = mmap.mmap(shared, 1)
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb", _BUFFER)
    os.dup2(2, 1)  # what a library prints is no answer
    answers.write(_READY)
    answers.flush()
    while True:
        try:
            config, pictures = pickle.load(requests)
        except EOFError:
            return
        for number, picture in enumerate(pictures):
            at[0] = number
            signal.setitimer(signal.ITIMER_PROF, seconds)
            signal.setitimer(signal.ITIMER_REAL, _WAIT * seconds)
            answers.write(_answer_to(picture, config))
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.flush()
