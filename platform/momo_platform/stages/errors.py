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
