"""Pictures prepared in a process of its own: where a decoder crashes, allocates or takes for ever,
one picture goes, and the task goes on.

The process is given some pictures at a time, and tells in a byte that all see which one it is at:
that one ended it. Then another takes its place and goes on with the others. They are forked by a
server that has imported what they need, which takes milliseconds.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import pickle
import resource
import signal
import socket
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
_NONE = 255  # in the byte: at no picture
_BUFFER = 2**16
_ENDS = 3  # of the process within one request where no picture is to blame
_CRASHES = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS")
_ANSWER = struct.Struct("<I?IIII")  # request, whether it is good, length, of it the look, size
_NUMBER = struct.Struct("<i")  # that the server sends: which process it forked, how that ended
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
Picture = tuple[bytes, bool]
"""Encoded bytes, and whether they are an SVG."""


class _Server:
    """The server and the process that it forked last."""

    def __init__(self) -> None:
        self._control, control = socket.socketpair()
        self._stream: socket.socket | None = None
        self.process: int | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  what the processes print
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        with control, tempfile.TemporaryFile() as shared:
            shared.truncate(1)
            self.at = mmap.mmap(shared.fileno(), 1)
            program = f"from {__name__} import serve; serve({os.getpid()}, {shared.fileno()})"
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", program],
                stdin=control.fileno(),
                stdout=self._errors,
                stderr=self._errors,
                pass_fds=[shared.fileno()],
                env=os.environ | threads | {"PYTHONPATH": os.pathsep.join(sys.path)},
            )

    def _received(self) -> int | None:
        """What the server says; None where it has ended."""
        try:
            raw = self._control.recv(_NUMBER.size, socket.MSG_WAITALL)
        except ConnectionError:
            return None
        return _NUMBER.unpack(raw)[0] if len(raw) == _NUMBER.size else None

    def start(self) -> None:
        """Have a process forked unless there is one. Raises EOFError where the server has ended."""
        if self._stream is not None:
            return
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._control, [b"f"], [theirs.fileno()])
        self._stream = ours
        self._answers: Any = ours.makefile("rb", _BUFFER)
        self.process = self._received()
        if self.process is None:
            raise EOFError

    def ask(self, *request: Any) -> None:
        """Raises ConnectionError where the process has ended."""
        self.at[0] = _NONE
        os.lseek(self._errors.fileno(), 0, os.SEEK_SET)  # of one request at most is kept
        self._errors.truncate(0)
        assert self._stream is not None
        self._stream.sendall(pickle.dumps(request, 5))

    def answer(self, request: int) -> PreparedImage | BadImage:
        """The next. Raises EOFError or ConnectionError where the process has ended."""
        raw = _exactly(self._answers, _ANSWER.size)
        number, good, length, look, width, height = _ANSWER.unpack(raw)
        if number != request:
            raise RuntimeError(f"an answer to request {number} of pictures, not to {request}")
        raw = _exactly(self._answers, length)
        if not good:
            return BadImage(raw.decode())
        return PreparedImage(raw[look:], width, height, raw[:look] or None)

    def ended(self) -> tuple[int, bool]:
        """How the process ended, which it has, as `Popen.returncode`; whether the server has."""
        self._hang_up()
        status = self._received()
        if status is None:
            return self._process.wait(), True
        return os.waitstatus_to_exitcode(status), False

    def _hang_up(self) -> None:
        if self._stream is not None:
            self._answers.close()
            self._stream.close()
            self._stream = None

    def last_line(self) -> str:
        """Of what the process printed."""
        size = os.fstat(self._errors.fileno()).st_size
        raw = os.pread(self._errors.fileno(), 2000, max(0, size - 2000))
        return next(reversed(raw.decode("utf-8", "replace").strip().splitlines()), "")

    def close(self, *, kill: bool) -> None:
        """End both, at once or when what was asked is done."""
        if kill:
            self._process.kill()
        self._hang_up()
        self._control.close()
        self._process.wait()
        self._errors.close()


class _Process:
    """A process for pictures, whichever it is at present."""

    def __init__(self) -> None:
        self._server: _Server | None = None
        self._requests = 0

    def close(self, *, kill: bool = False) -> None:
        """It is started again when it is needed."""
        server, self._server = self._server, None
        if server is not None:
            server.close(kill=kill)

    def prepare(
        self, pictures: Sequence[Picture], config: ImageConfig
    ) -> list[PreparedImage | BadImage]:
        """What each picture becomes, or why it can't be used."""
        try:
            return self._prepared(pictures, config)
        except BaseException:  # the answers that are still to come would be taken for others
            self.close(kill=True)
            raise

    def _prepared(
        self, pictures: Sequence[Picture], config: ImageConfig
    ) -> list[PreparedImage | BadImage]:
        found: dict[int, PreparedImage | BadImage] = {}
        ends, crashed = 0, False
        while left := [n for n in range(len(pictures)) if n not in found]:
            self._requests += 1
            request = self._requests
            if self._server is None:
                self._server = _Server()
            server = self._server
            try:
                server.start()
                server.ask(request, SECONDS, crashed, config, [pictures[n] for n in left])
                for number in left:
                    found[number] = server.answer(request)
            except (EOFError, ConnectionError):
                code, without_server = server.ended()
                why, guilty = _reason(code)
                at = None if without_server or server.at[0] == _NONE else left[server.at[0]]
                if guilty and at is not None and at not in found:
                    found[at], crashed = BadImage(why), True
                elif (ends := ends + 1) == _ENDS:
                    raise RuntimeError(_cannot(code, server.last_line())) from None
                if without_server:
                    self.close()
        return [found[n] for n in range(len(pictures))]


def _name_of(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def _reason(code: int) -> tuple[str, bool]:
    """Why a process ended, and whether the picture that it was at may have been the cause."""
    if code in (-signal.SIGPROF, -signal.SIGALRM):
        return f"decoding it took longer than {SECONDS} s", True
    name = _name_of(code)
    return f"the decoder crashed ({name})", code >= 0 or name in _CRASHES


def _cannot(code: int, line: str) -> str:
    told = f"pictures can't be prepared: their process ended {_ENDS} times ({_name_of(code)})"
    if code in (-signal.SIGKILL, -signal.SIGTERM):
        remedy = "If the machine had no memory left, run fewer tasks on it at once"
    else:
        remedy = (
            f"Run `{sys.executable} -c 'import {__name__}'` on the machine of this task: its "
            "environment must be that of the others"
        )
    return f"{told}{': ' * bool(line)}{line}. {remedy}."


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


def _exactly(stream: IO[Any], count: int) -> bytes:
    raw = stream.read(count)
    if len(raw) < count:
        raise EOFError
    return raw


def _end_with(parent: int) -> None:
    """End this process when that one, its parent, ends (elsewhere than on Linux: when this one
    next reads or writes)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before
        os._exit(1)


def serve(parent: int, shared: int) -> None:
    """The server: fork a process for each socket that is sent, and say how it ended."""
    _end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    at, control, own = mmap.mmap(shared, 1), socket.socket(fileno=0), os.getpid()
    for svg in (False, True):  # neither is a picture, but decoders are imported for them
        _answer_to(0, (b"-", svg), ImageConfig())
    while sockets := socket.recv_fds(control, 1, 1)[1]:
        process = os.fork()
        if process == 0:
            control.close()
            _end_with(own)
            _work(socket.socket(fileno=sockets[0]), at)
            return
        os.close(sockets[0])
        control.sendall(_NUMBER.pack(process))
        control.sendall(_NUMBER.pack(os.waitpid(process, 0)[1]))


def _work(stream: socket.socket, at: mmap.mmap) -> None:
    """The forked process: answer until there is nothing more. A timer ends it in the middle of a
    call."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    requests, answers = stream.makefile("rb", _BUFFER), stream.makefile("wb", _BUFFER)
    while True:
        try:
            request, seconds, one_by_one, config, pictures = pickle.load(requests)
        except EOFError:
            return
        for number, picture in enumerate(pictures):
            at[0] = number
            signal.setitimer(signal.ITIMER_PROF, seconds)
            signal.setitimer(signal.ITIMER_REAL, _WAIT * seconds)
            answers.write(_answer_to(request, picture, config))
            if one_by_one:  # what is not sent is lost with this process
                answers.flush()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        at[0] = _NONE
        answers.flush()


def _answer_to(request: int, picture: Picture, config: ImageConfig) -> bytes:
    try:
        made = prepare_picture(picture[0], config, svg=picture[1])
    except BadImage as error:
        raw = str(error).encode("utf-8", "replace")
        return _ANSWER.pack(request, False, len(raw), 0, 0, 0) + raw
    look = made.look or b""
    raw = look + made.image
    return _ANSWER.pack(request, True, len(raw), len(look), made.width, made.height) + raw
