"""What the error of a stage's task means: whether a second try may go well, and what is told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from momo_platform.stages.errors import UserError
from momo_platform.stages.run_faults import passing, told
from momo_platform.stages.status import StageStatus

_ERROR_LINES = 25
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def why_again(error: Exception) -> str:
    """The fault of the machine that ended the task, after which it is tried again; else ''."""
    from ray.exceptions import (
        NodeDiedError,
        OutOfMemoryError,
        RayActorError,
        WorkerCrashedError,
    )

    # Of its own process, or of one that it started: a training's controller, Ray Data's.
    lost = (WorkerCrashedError, OutOfMemoryError, NodeDiedError, RayActorError)
    cause = getattr(error, "cause", error)
    if isinstance(error, lost) or isinstance(cause, lost):
        return "worker lost"
    return passing(cause)


def told_error(error: Exception) -> tuple[str, str]:
    """(what people are shown, the whole of it where that is more)."""
    cause = getattr(error, "cause", error)
    if isinstance(cause, UserError):
        return str(cause), ""
    text = _ANSI.sub("", str(error)).strip()
    lines = text.splitlines()
    below = told(cause)
    more = bool(below) or len(lines) > _ERROR_LINES
    return below or "\n".join(lines[-_ERROR_LINES:]), text if more else ""


def failure_text(failures: Sequence[StageStatus], statuses: Iterable[StageStatus]) -> str:
    """Of a run with failures: the first in full, then the others and what was not run."""
    first = failures[0]
    lines = [f"stage {first.entry.name} failed: {first.error}"]
    lines += [f"stage {s.entry.name} failed too" for s in failures[1:]]
    left = [s.entry.name for s in statuses if s.state == "not run"]
    if left:
        lines.append(f"not run: {', '.join(left)}")
    return "\n".join(lines)
