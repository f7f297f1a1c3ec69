"""Text as people save it: UTF-8, or UTF-16 and UTF-32 with a byte order mark or plainly without."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from typing import Any

_CHUNK = 2**23  # as much as an object store is asked for at once
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)
# Which bytes of each four are zero where nearly all characters are ASCII.
_ZEROS: dict[tuple[bool, ...], str] = {
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
}


def _encoding_of(head: bytes) -> tuple[str, int]:
    """The encoding of a text by its beginning, and the length of its mark; "zeros": one of those
    above with characters beyond ASCII, which can't be told without a mark."""
    for mark, name in _MARKS:
        if head.startswith(mark) and (len(head) > len(mark) or name == "utf-8"):
            return name, len(mark)
    head = head[:4096]
    parts = [head[i::4] for i in range(4)]
    shares = [part.count(0) / max(1, len(part)) for part in parts]
    if len(head) >= 4 and all(share < 0.1 or share > 0.8 for share in shares):
        return _ZEROS.get(tuple(share > 0.8 for share in shares), "utf-8"), 0
    return "zeros" if len(head) >= 16 and head.count(0) > len(head) / 5 else "utf-8", 0


def is_utf8(head: bytes) -> bool:
    """Whether a text that begins so is not of another encoding."""
    return _encoding_of(head)[0] == "utf-8"


def utf8_chunks(stream: Any, *, whole: bool = True) -> Iterator[bytes]:
    """A stream of bytes as UTF-8 without a mark, 8 MB at a time. Where it is damaged, or none of
    these, a byte comes that no UTF-8 has, so that its line is refused. A stream that is not `whole`
    may end within a character."""
    chunk = stream.read(_CHUNK)
    name, length = _encoding_of(chunk)
    chunk = chunk[length:]
    if name in ("utf-8", "zeros"):
        while chunk:
            yield chunk if name == "utf-8" else chunk.replace(b"\0", b"\xff")
            chunk = stream.read(_CHUNK)
        return
    decoder = codecs.getincrementaldecoder(name)("surrogatepass")
    try:
        while chunk:
            yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
            chunk = stream.read(_CHUNK)
        yield decoder.decode(b"", final=whole).encode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        yield b"\xff"


def to_utf8(raw: bytes, *, whole: bool = True) -> bytes:
    """All of a text, or its beginning, as UTF-8 without a mark."""
    return b"".join(utf8_chunks(io.BytesIO(raw), whole=whole))
