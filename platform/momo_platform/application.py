"""The application that this platform is a part of.

Its environment variables, cache, metrics, projects of trackers and command are called by it. The
name is the first word of this package's own, so that every process has it, whichever module it
imports first: a worker of Ray on another machine, a replica, `python -m`.
"""

from __future__ import annotations

NAME = __name__.partition("_")[0]


def variable(name: str) -> str:
    """An environment variable of the application, e.g. of `API_KEY`."""
    return f"{NAME.upper()}_{name}"
