"""The model in a process of its own, beside the replica that takes its requests.

In one process the model's Python waits for HTTP's at every operation, since there is one
interpreter lock: at 32 requests in flight four pictures took 40 ms of which 11 were work (size
demo, two cores). The replica sends batches through a pair of sockets; what goes through it is ours,
never a client's bytes. When the replica ends its model's process does too. When that one ends,
another one is started and does the batch again, since embedding twice is harmless; a batch that
ends that one too is refused with 503.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Sequence
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from momo_platform.machine import with_our_modules
from momo_platform.memory import keep_freed_memory
from momo_platform.serving.config import Precision
from momo_platform.serving.encoder import ServedClassifier, ServedEncoder, Tokens
from momo_platform.serving.errors import ServiceRefusal

_DONE, _FAILED, _REFUSED = "done", "failed", "refused"
_LARGEST_KEPT = 1024
"""MiB: a model's process uses the memory of one batch for the next, that of large tensors too.
Their pages made anew for every layer cost a sixth of the time of four pictures (size small)."""


class ModelProcess:
    """An encoder or a classifier by `load(folder, threads, device, precision)` in another process;
    one call at a time.

    `load` must be a function of a module, which the new process imports. That process sees the
    GPUs of this one, on the device `cpu` none. Raises RuntimeError with the other process's error
    when it can't be loaded.
    """

    def __init__(
        self,
        load: Callable[[str, int, str, Precision], ServedEncoder | ServedClassifier],
        folder: str,
        threads: int,
        device: str = "cpu",
        precision: Precision = "fp32",
    ) -> None:
        self._what = (load.__module__, load.__qualname__, folder, threads, device, precision)
        self.device, self.precision = device, precision
        self._lock = threading.Lock()
        self.device_bytes = 0
        """Memory that it held on its GPU after the last call."""
        self.name, self.dimensions, self.logit_scale = self._start()

    def _start(self) -> tuple[str, int, float]:
        """The model's name, dimensions and scale of cosines (1 of a classifier). Raises
        RuntimeError when it can't be loaded."""
        ours, theirs = socket.socketpair()
        own = {"CUDA_VISIBLE_DEVICES": ""} if self.device == "cpu" else {}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=with_our_modules(**own),
                stdin=subprocess.DEVNULL,
            )
        self._connection = Connection(ours.detach())
        self._end = weakref.finalize(self, _end, self._connection, self._process)
        try:
            return self._answer("load", *self._what)
        except (EOFError, OSError):
            raise RuntimeError("the model's process ended while it loaded it") from None

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def resident_bytes(self) -> int:
        """Its memory; 0 where the system does not tell (it is read from /proc)."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="utf-8").split()[1])
        except OSError:
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def texts(self, texts: Sequence[Tokens]) -> np.ndarray:
        """float32 [N, dimensions]."""
        return self._ask("texts", list(texts))

    def pictures(self, pictures: Sequence[Any]) -> np.ndarray:
        """float32 [N, dimensions]."""
        return self._ask("pictures", list(pictures))

    def attention(self, picture: Any, text: Tokens | None) -> np.ndarray:
        """float32 [rows, columns]."""
        return self._ask("attention", picture, text)

    def classify(
        self, texts: Sequence[Tokens] | None, pictures: Sequence[Any] | None
    ) -> np.ndarray:
        """float32 [N, classes], of a classifier."""
        return self._ask("classify", texts, pictures)

    def _ask(self, what: str, *arguments: Any) -> Any:
        """Raises ServiceRefusal 503 when two processes ended, 400 for what the model does not do,
        RuntimeError for its errors."""
        with self._lock:
            for _ in range(2):
                try:
                    if not self.alive:
                        self._again()
                    return self._answer(what, *arguments)
                except (EOFError, OSError):
                    self._process.wait()  # its end of the sockets is closed: it ends
            raise ServiceRefusal(
                503, "the model's process ended twice at this batch: try again, or send it in parts"
            )

    def _again(self) -> None:
        self._end()
        try:
            found = self._start()
        except RuntimeError as error:
            raise ServiceRefusal(503, "the model can't be loaded again") from error
        if found != (self.name, self.dimensions, self.logit_scale):
            self._end()  # its vectors would not be those that answers and the index name
            raise ServiceRefusal(503, "the model's folder holds another model now: deploy again")

    def _answer(self, what: str, *arguments: Any) -> Any:
        self._connection.send((what, arguments))
        done, result, self.device_bytes = self._connection.recv()
        if done == _REFUSED:
            raise ServiceRefusal(400, result)
        if done == _FAILED:
            raise RuntimeError(result)
        return result


def _end(connection: Connection, process: subprocess.Popen[bytes]) -> None:
    connection.close()  # the other side reads its end, and ends
    # Not waited for here: this may be the event loop, when a model is replaced.
    threading.Thread(target=_wait, args=(process,), daemon=True).start()


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> None:
    """Serve one ModelProcess until it goes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the replica, which drains first
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    keep_freed_memory(_LARGEST_KEPT)
    encoder: Any = None
    with Connection(int(sys.argv[1])) as connection, contextlib.suppress(EOFError, OSError):
        while True:
            what, arguments = connection.recv()
            try:
                if what == "load":
                    module, name, *rest = arguments
                    encoder = getattr(import_module(module), name)(*rest)
                    scale = float(getattr(encoder, "logit_scale", 1.0))
                    result: Any = (encoder.name, encoder.dimensions, scale)
                else:
                    result = getattr(encoder, what)(*arguments)
            except Exception as error:  # noqa: BLE001 - the replica raises it
                if what == "attention" and isinstance(error, ValueError):  # an engine tells none
                    connection.send((_REFUSED, str(error), _held(encoder)))
                    continue
                traceback.print_exc()
                connection.send((_FAILED, f"{type(error).__name__}: {error}", _held(encoder)))
                if encoder is None or "CUDA error" in str(error):
                    break  # no later call of this process would work either
            else:
                connection.send((_DONE, result, _held(encoder)))


def _held(encoder: Any) -> int:
    return encoder.device_bytes if encoder is not None else 0


if __name__ == "__main__":
    main()
