"""Text and captions: normalised, cleaned, or refused with a reason."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200b\ufeff]")
_SPACE = re.compile(r"\s+")
_HTML_TAG = re.compile(r"<[a-zA-Z/][^>]{0,200}>")


class BadText(ValueError):
    """A text or caption that can't be used; the message is the reason."""


def normalise(text: str) -> str:
    """NFC, no control characters, white space folded."""
    text = _CONTROL.sub(" ", unicodedata.normalize("NFC", text))
    return _SPACE.sub(" ", text).strip()


def decode_lines(raw: bytes | Iterable[bytes]) -> Iterator[tuple[int, str | None]]:
    """(line number from 1, text) of bytes or of their lines; None for a line that is not UTF-8.
    Blank lines are left out."""
    for number, line in enumerate(raw.splitlines() if isinstance(raw, bytes) else raw, start=1):
        if not line.strip():
            continue
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError:
            yield number, None


def clean_caption(caption: object) -> str:
    """One caption, normalised and without HTML tags. Raises BadText when nothing is left."""
    if not isinstance(caption, str):
        raise BadText(f"the caption is {type(caption).__name__}, not text")
    cleaned = normalise(_HTML_TAG.sub(" ", caption))
    if not any(c.isalnum() for c in cleaned):
        raise BadText("the caption is empty")
    return cleaned
