"""What the fake CUDA device (`fake_cuda`) writes down."""

from __future__ import annotations

import collections
import contextlib
import traceback
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_OWN = ("/momo/", "/momo_platform/")


@dataclass
class Measured:
    """One stretch of code. `waits`: (what waited, the line) → how often; `copied`: bytes of those
    that are copies; `peak_bytes`, and `live_bytes` at the end, of all storages on the device."""

    waits: collections.Counter[tuple[str, str]] = field(default_factory=collections.Counter)
    copied: collections.Counter[tuple[str, str]] = field(default_factory=collections.Counter)
    flops: int = 0
    peak_bytes: int = 0
    live_bytes: int = 0

    def __str__(self) -> str:
        """The waits, a line each."""
        lines = []
        for (what, line), count in sorted(self.waits.items(), key=lambda item: item[0][1]):
            size = self.copied[what, line]
            lines.append(f"{count} x {what}{f' of {size:,} bytes' if size else ''}: {line}")
        return "\n".join(lines)


class Record:
    """What happens on the fake device: live storages at all times, the rest within `measure`."""

    def __init__(self) -> None:
        self.live_bytes = 0
        self._current = Measured()
        self._storages: dict[int, Any] = {}

    @contextlib.contextmanager
    def measure(self) -> Iterator[Measured]:
        self._current = found = Measured(peak_bytes=self.live_bytes)
        yield found
        found.live_bytes = self.live_bytes
        self._current = Measured()

    def wait(self, what: str, size: int = 0) -> None:
        place = (what, _line())
        self._current.waits[place] += 1
        self._current.copied[place] += size

    def compute(self, flops: int) -> None:
        self._current.flops += flops

    def hold(self, value: Any) -> None:
        """Count the storage of a tensor on the device until it is freed."""
        device = getattr(value, "fake_device", None)  # of a FakeTensor
        if device is None or device.type != "cuda":
            return
        storage = value.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._storages:
            return

        def free(_: Any) -> None:
            self.live_bytes -= size
            del self._storages[key]

        self._storages[key] = weakref.ref(storage, free)
        self.live_bytes += size
        self._current.peak_bytes = max(self._current.peak_bytes, self.live_bytes)


def _line() -> str:
    """The innermost line of the product's own code."""
    for frame in reversed(traceback.extract_stack()):
        if any(part in frame.filename for part in _OWN) and "/tests/" not in frame.filename:
            return f"{frame.filename}:{frame.lineno} {frame.name}: {(frame.line or '').strip()}"
    return "outside of momo and momo_platform"
