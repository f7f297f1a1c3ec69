"""Errors of disks, file servers and limits as a line that says what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path

from momo_platform.cache import cache_root

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
_SHAPE = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP)
_BROKEN = (
    *(errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT, errno.ENODEV),
    *(errno.ENXIO, errno.EREMOTEIO, errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK),
)
_FILES = (errno.EMFILE, errno.ENFILE)


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
