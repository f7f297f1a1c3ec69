"""How every command ends: 0 done, 1 a stage failed, 2 bad input or a machine that is unfit for it,
130 interrupted, 143 asked to stop (SIGTERM), 129 its terminal is gone (SIGHUP)."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from momo_platform.cache import cache_root
from momo_platform.stages.errors import StageFailed, UserError

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
_SHAPE = (errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
_BROKEN = (
    *(errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT, errno.ENODEV),
    *(errno.ENXIO, errno.EREMOTEIO, errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK),
)
_FILES = (errno.EMFILE, errno.ENFILE)


class Stopped(KeyboardInterrupt):
    """The process was asked to stop by a signal; everything is given back as at Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_code(work: Callable[[], int], after_interrupt: str, place: str = "--storage") -> int:
    """What `work` returns, or the code of the error that it ended with, told in a line. `place`:
    the option that names where the command writes."""
    prepare_streams()
    try:
        with _stoppable():
            code = work()
            sys.stdout.flush()
            return code
    except UserError as error:
        return _told(f"error: {error}", 2)
    except StageFailed as error:
        return _told(f"\n{error}", 1)
    except Stopped as stopped:
        name = signal.Signals(stopped.number).name
        return _told(f"\nstopped by {name}; {after_interrupt}", 128 + stopped.number)
    except KeyboardInterrupt:
        return _told(f"\ninterrupted; {after_interrupt}", 130)
    except BrokenPipeError:  # `… | head`: what is printed last, or a list; runs go on without
        _to_nowhere(sys.stdout.fileno())
        return 0
    except OSError as error:
        if (told := fault_of_machine(error, place)) is None:
            raise
        return _told(f"error: {told}", 2)


def prepare_streams() -> None:
    """Output that can always be written: what an encoding lacks becomes `?`, and a stream that is
    closed (`>&-`) goes nowhere; else the next file that is opened would get what is printed."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            _to_nowhere(number)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a test's stream may have none
        if reconfigure is not None and stream.errors in ("strict", "surrogateescape"):
            reconfigure(errors="replace")


def fault_of_machine(error: OSError, place: str = "--storage") -> str | None:
    """A line for an error of the file system or of a server, None for another one."""
    if isinstance(error, FileNotFoundError) and not _here():
        return "the current folder was deleted: change to another one, then try again"
    if error.errno is None:  # pyarrow's own: object storage
        first = str(error).strip().partition("\n")[0]
        return f"{first or type(error).__name__}; look after it, then run the same command again"
    told = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    other = f"or choose another with {_option(error.filename, place)}"
    if error.errno in _FULL:
        return f"disk full ({told}): make room there, {other}; what is finished is kept"
    if error.errno in _FORBIDDEN:
        return f"{told}: let this user write and read there, {other}"
    if error.errno in _SHAPE:
        return f"{told}: a file or a name is in the way of a folder; move it, {other}"
    if error.errno in _BROKEN:
        return (
            f"{told}: the file system does not do what is needed; look at its mount and its "
            f"server and run the same command again, {other}; what is finished is kept"
        )
    if error.errno in _FILES:
        return f"{told}: raise the limit (`ulimit -n`), then run the same command again"
    return None


def _option(name: object, place: str) -> str:
    """What chooses the place of a file: the cache, scratch folders and /dev/shm have their own."""
    if not isinstance(name, str | os.PathLike):
        return place
    path = Path(name).absolute() if _here() else Path(name)
    with contextlib.suppress(OSError):
        if path.is_relative_to(cache_root()):
            return "XDG_CACHE_HOME"
    for variable in ("RAY_TMPDIR", "TMPDIR"):
        if (folder := os.environ.get(variable)) and path.is_relative_to(folder):
            return variable
    with contextlib.suppress(OSError):  # there may be no usable one
        if path.is_relative_to(tempfile.gettempdir()):
            return f"TMPDIR, or {place}"
    return place


def _here() -> bool:
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def _told(text: str, code: int) -> int:
    with contextlib.suppress(OSError):  # standard output may be what failed
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
    for stream in (sys.stdout, sys.stderr):  # what is left in a buffer would fail once more
        try:
            stream.flush()
        except OSError:
            _to_nowhere(stream.fileno())
    return code


def _to_nowhere(number: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM and SIGHUP raise `Stopped`, once: what is given back then takes a moment, and who
    asks often asks twice. In another thread than the main one, nothing (Python's rule)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if not asked:
            asked = True
            raise Stopped(number)

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    # nohup ignores SIGHUP, and it stays so; a caller's own handler stays too.
    ours = [number for number, handler in before.items() if handler == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
