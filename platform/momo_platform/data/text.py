"""Text and captions: normalised, cleaned, or refused with a reason."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from momo_platform.data.encodings import to_utf8, utf8_chunks

if TYPE_CHECKING:
    import pyarrow as pa

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200b\ufeff]")
_SPACE = re.compile(r"\s+")
LONGEST_CAPTION = 10_000  # characters
LONGEST_LINE = 2**26
_CHUNK = 2**23
# Only HTML's own elements, their attributes with values: `<PERSON>`, `a<b and c>d` are words.
_ELEMENTS = (
    "a|abbr|address|article|b|big|blockquote|body|br|button|center|cite|code|dd|del|div|dl|dt|em|"
    "figcaption|figure|font|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|label|li|"
    "link|main|mark|meta|nav|ol|option|p|pre|q|s|script|section|select|small|source|span|strike|"
    "strong|style|sub|sup|svg|table|tbody|td|tfoot|th|thead|title|tr|tt|u|ul|var|video|wbr"
)
_ATTRIBUTE = r"""\s+[\w:.-]+\s*=\s*(?:"[^"<>]{0,500}"|'[^'<>]{0,500}'|[^\s"'<>=]{1,500})"""
_HTML_TAG = re.compile(
    rf"<(?:/(?:{_ELEMENTS})|(?:{_ELEMENTS})(?:{_ATTRIBUTE}){{0,20}})\s*/?>", re.IGNORECASE
)
_NOTHING = {"nan", "null", "none", "n/a", "<na>"}  # as programs write a value that is missing


class BadText(ValueError):
    """A text or caption that can't be used; the message is the reason."""


def normalise(text: str) -> str:
    """NFC, no control characters, white space folded."""
    text = _CONTROL.sub(" ", unicodedata.normalize("NFC", text))
    return _SPACE.sub(" ", text).strip()


def _cut(raw: bytes) -> list[bytes]:
    return raw.splitlines() if len(raw) <= LONGEST_LINE else [raw]


def lines(stream: pa.NativeFile, *, utf8: bool = False) -> Iterator[bytes]:
    """A stream's lines in UTF-8, as `bytes.splitlines` cuts them; holds one line and 8 MB. `utf8`:
    it is known to be that.

    Of a line longer than LONGEST_LINE one byte more than that comes, so that it is refused.
    """
    rest = bytearray()
    for chunk in iter(lambda: stream.read(_CHUNK), b"") if utf8 else utf8_chunks(stream):
        head, newline, tail = chunk.partition(b"\n")
        rest += head[: max(0, LONGEST_LINE + 1 - len(rest))]
        if not newline:
            continue
        yield from _cut(bytes(rest + newline))
        whole, newline, last = tail.rpartition(b"\n")
        yield from (whole + newline).splitlines()
        rest = bytearray(last)
    yield from _cut(bytes(rest))


def decode_captions(raw: bytes) -> list[str]:
    """A caption from each line of a file; [""] of an empty one. Raises BadText."""
    text = decode_caption(raw)
    if len(text) > LONGEST_CAPTION:
        return [text]
    return [line for line in text.splitlines() if line.strip()] or [""]


def decode_caption(raw: bytes) -> str:
    """The text of a caption's file, or as much of it as shows that it is too long.

    Raises BadText when it is not UTF-8.
    """
    if len(raw) > 4 * LONGEST_CAPTION:
        return to_utf8(raw[: 4 * LONGEST_CAPTION + 4]).decode("utf-8", errors="replace")
    try:
        return to_utf8(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise BadText("the caption is not UTF-8") from None


def clean_caption(caption: object) -> str:
    """One caption, normalised and without HTML tags. Raises BadText when nothing is left, and
    for one so long that it is no caption."""
    if not isinstance(caption, str):
        raise BadText(f"the caption is {type(caption).__name__}, not text")
    if len(caption) > LONGEST_CAPTION:
        raise BadText(f"the caption is longer than {LONGEST_CAPTION} characters")
    cleaned = normalise(_HTML_TAG.sub(" ", caption))
    if cleaned.lower() in _NOTHING:
        raise BadText(f"the caption is empty: {cleaned}")
    if not any(c.isalnum() or unicodedata.category(c) == "So" for c in cleaned):
        what = f"has no word: {cleaned[:80]}" if cleaned else "is empty"
        raise BadText(f"the caption {what}")
    return cleaned


def parse_json(line: bytes) -> Any:
    """A line's JSON object, or the reason text why it is none."""
    if len(line) > LONGEST_LINE:
        return f"the line is longer than {LONGEST_LINE >> 20} MB"
    try:
        row = json.loads(line.decode("utf-8"))
        if not isinstance(row, dict):
            return "the line is no JSON object"
        if b"\\ud" in line.lower():  # half a surrogate pair has no UTF-8
            json.dumps(row, ensure_ascii=False).encode()
        return row
    except UnicodeError:
        return "the line is not UTF-8"
    except (ValueError, RecursionError) as error:  # ValueError: also digits without end
        return f"the line is no JSON: {error}"
