"""Errors that people read."""


class UserError(Exception):
    """Bad input: the message names the file or field and the remedy. Shown without a traceback."""


class StageFailed(Exception):
    """One or more stages failed; the message holds the first failing worker's error."""
