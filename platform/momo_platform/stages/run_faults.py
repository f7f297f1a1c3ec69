"""Faults of the machine that strike a run from below: its storage, its Ray, its clock."""

from __future__ import annotations

import errno
import os
import re
import time
from typing import Any

from momo_platform.machine_faults import fault_of_machine
from momo_platform.ray_watch import AGAIN
from momo_platform.stages.errors import StageFailed

# A file server that comes back, a device that fails once: the same call may go well a moment later.
_PASSING = frozenset(
    {
        *(errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT),
        *(errno.EREMOTEIO, errno.ENOLCK, errno.EROFS, errno.EHOSTUNREACH, errno.ENETDOWN),
    }
)
# How Python and Rust write them into the text of other errors, and a line that such a text has for
# an error below it.
_ANOTHER = "During handling of the above exception, another exception occurred:"
_BELOW = re.compile(r"^(?:OSError|TimeoutError|ConnectionError): ")
_WRITTEN = re.compile(r"\[Errno (\d+)\] [^:\n]*(?:: '([^'\n]+)')?|\(os error (\d+)\)")
_CLOCK_BACK_SECONDS, _LOOK_SECONDS, _WAITS_SECONDS = 10.0, 2.0, 20.0


def storage_error(error: BaseException) -> OSError | None:
    """What the file system said, if that is what `error` is about: an `OSError` as it is, or one
    that only the text of another error tells of: its last line, or that of an error which Ray Data
    wrapped."""
    if isinstance(error, OSError) and error.errno is not None:  # Ray's wrappers have none
        return error
    lines = str(error).rpartition(_ANOTHER)[2].strip().splitlines()
    told = [*lines[-1:], *(line for line in lines if _BELOW.match(line))]
    found = next((match for line in told if (match := _WRITTEN.search(line))), None)
    if found is None:
        return None
    number = int(found[1] or found[3])
    return OSError(number, os.strerror(number), found[2])


def passing(error: BaseException) -> str:
    """What of the storage failed, where a second try may go well; else ''."""
    found = storage_error(error)
    return f"{found.strerror}" if found is not None and found.errno in _PASSING else ""


def told(error: BaseException) -> str | None:
    """A line for a person where the storage failed, else None."""
    found = storage_error(error)
    return None if found is None else fault_of_machine(found)


def ray_was_lost(reason: str) -> StageFailed:
    """For an error of Ray itself in the driver: a process of its own died."""
    lines = [line.strip() for line in reason.strip().splitlines()]
    first = lines[0] if lines else "no reason given"
    return StageFailed(f"Ray ended under the run ({first[:200]}); {AGAIN}")


class WallClock:
    """Notices a wall clock that went back, by a steady one.

    Ray compares moments of the wall clock. While it is behind what it was once, a Ray whose head is
    on this machine grants no placement group, and training workers are waited for in silence.
    """

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()
        self._next_look, self._waits_since = 0.0, 0.0

    def back(self) -> float:
        """Seconds that the clock is behind what it would be; 0 for a few."""
        now = time.time() - time.monotonic()
        self._ahead = max(self._ahead, now)
        behind = self._ahead - now
        return behind if behind > _CLOCK_BACK_SECONDS else 0.0

    def workers_wait(self, ray: Any) -> bool:
        """Whether a placement group has been asked for in vain for long."""
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + _LOOK_SECONDS
        head = ray.get_runtime_context().gcs_address.rpartition(":")[0]
        groups = ray.util.placement_group_table().values()
        if head != ray.util.get_node_ip_address() or all(g["state"] != "PENDING" for g in groups):
            self._waits_since = 0.0
            return False
        self._waits_since = self._waits_since or now
        return now - self._waits_since > _WAITS_SECONDS


def clock_went_back(seconds: float) -> StageFailed:
    """For a run that would wait so long for workers."""
    return StageFailed(
        f"this machine's clock went back by {seconds:.0f} s, and until it has caught up Ray starts "
        f"no training workers: {AGAIN}"
    )
