"""Errors that people read."""

import errno


class UserError(Exception):
    """Bad input: the message names the file or field and the remedy. Shown without a traceback."""


class StageFailed(Exception):
    """One or more stages failed; the message holds the first failing worker's error."""


def is_disk_full(error: BaseException) -> bool:
    """Whether a write failed for want of room, whichever library did it."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left on device" in str(error)


def unreadable(error: Exception, place: str) -> str:
    """An error of reading one thing of a storage, in words. Raises it again where it comes from
    an object store that does not answer: so would all others."""
    if not isinstance(error, OSError):
        return str(error)
    if error.errno is None:
        raise error
    return f"{error.filename or place}: can't be read ({error.strerror})"
