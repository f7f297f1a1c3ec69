"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

# What a file system says that can't sync a folder, or a file opened for reading.
_CANNOT = (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EROFS, errno.EACCES, errno.EISDIR)


def write_whole(file: Path, text: str, *, durably: bool = True) -> None:
    """Killed in the middle, the file is the old or the new one; so it is after a power failure,
    unless `durably` is False: for what is of no use then."""
    temporary = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            if durably:
                os.fsync(stream.fileno())
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durably:
        sync(file.parent)


@contextlib.contextmanager
def writing_whole(file: Path) -> Iterator[Path]:
    """A file beside it, of any size, which is `file` when the block has ended well, also after a
    power failure. It is gone else."""
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(file)
        sync(file.parent)
    finally:
        temporary.unlink(missing_ok=True)


def is_partial(file: Path) -> bool:
    """Whether it is one of `writing_whole` that is being written, or whose writer died."""
    return file.name.startswith(".") and file.name.endswith(".tmp")


def sync(path: Path) -> None:
    """Bring a file, or a folder's names (a rename before it), to the disk, so that it is there
    after a power failure. Where a file system can't, it is as durable as it gets there."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
