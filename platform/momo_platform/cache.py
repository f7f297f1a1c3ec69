"""Where what can be fetched or made again is kept on this machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from momo_platform.application import NAME


def cache_root() -> Path:
    """`$XDG_CACHE_HOME/NAME`, by default `~/.cache/NAME`; safe to delete. A relative
    XDG_CACHE_HOME counts as none, as its specification says: every process has a folder of its own.
    Without a home (a user that the system does not know) it is a folder for this user among the
    temporary ones."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        return given / NAME
    try:
        home = Path.home()
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"{NAME}-cache-{os.getuid()}"
    return home / ".cache" / NAME
