"""How every command ends: 0 done, 1 a stage failed, 2 bad input or a machine that is unfit for it,
130 interrupted, 143 asked to stop (SIGTERM), 129 its terminal is gone (SIGHUP)."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from momo_platform.machine import ensure_home
from momo_platform.machine_faults import fault_of_machine
from momo_platform.stages.errors import StageFailed, UserError

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_asked: list[int] = []  # signals that came to the command which runs


def exit_code(work: Callable[[], int], after_interrupt: str, place: str = "--storage") -> int:
    """What `work` returns, or the code of the error that it ended with, told in a line. `place`:
    the option that names where the command writes."""
    prepare_streams()
    ensure_home()
    try:
        with _stoppable():
            code = work()
            sys.stdout.flush()
            return code
    except UserError as error:
        return _told(f"error: {error}", 2)
    except StageFailed as error:
        return _told(f"\n{error}", 1)
    except KeyboardInterrupt:
        if _asked:
            name = signal.Signals(_asked[0]).name
            return _told(f"\nstopped by {name}; {after_interrupt}", 128 + _asked[0])
        return _told(f"\ninterrupted; {after_interrupt}", 130)
    except BrokenPipeError:  # `… | head`: what is printed last, or a list; runs go on without
        _to_nowhere(sys.stdout.fileno())
        return 0
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # rich's way to tell of the same
            return 0
        raise
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
    if os.environ.get("COLUMNS") in ("1", "2", "3", "4"):
        del os.environ["COLUMNS"]  # so narrow, tyro's help would never end


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
    """SIGTERM and SIGHUP are noted and raise KeyboardInterrupt, so that everything is given back as
    at Ctrl-C; once, for that takes a moment, and who asks often asks twice. Nothing in another
    thread than the main one (Python's rule), and in a command within a command."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        _asked.append(number)
        if len(_asked) == 1:
            raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    # nohup ignores SIGHUP, and it stays so; a caller's own handler stays too.
    ours = [number for number, handler in before.items() if handler == signal.SIG_DFL]
    if ours:
        _asked.clear()
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
