"""Large files of lines, divided at line ends so that several tasks read one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import pyarrow as pa

from momo_platform.data.encodings import is_utf8
from momo_platform.data.filesystems import filesystem_of
from momo_platform.data.readers.base import Corpus, place_of
from momo_platform.data.text import lines

RANGE_BYTES = 2**26
_LOOKED_AT = 2**20


def line_ranges(corpus: Corpus, path: str, **more: Any) -> list[dict[str, Any]]:
    """Places of a file, of RANGE_BYTES each where it is larger and in UTF-8, else one."""
    whole, size = place_of(corpus, path, **more), corpus.sizes.get(path, 0)
    if size <= RANGE_BYTES:
        return [whole]
    try:
        with filesystem_of(corpus.uri).open_input_stream(path) as file:
            head = file.read(_LOOKED_AT)
    except PermissionError:
        return [whole]  # it has its reason when it is read
    if not is_utf8(head):
        return [whole]
    cuts = [*range(0, size, RANGE_BYTES), size]
    return [
        whole | {"start": start, "stop": stop, "size": stop - start}
        for start, stop in pairwise(cuts)
    ]


def lines_of(place: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """(name, line) of a place: lines are named by their numbers from 1, in ranges after the first
    by the range's first byte and the number there. A line is of the range that it begins in."""
    filesystem, start, stop = filesystem_of(place["root"]), place.get("start"), place.get("stop")
    if start is None or stop is None:
        with filesystem.open_input_stream(place["path"]) as file:
            yield from ((str(n), line) for n, line in enumerate(lines(file), start=1))
        return
    with filesystem.open_input_file(place["path"]) as file:
        first, end = (_line_from(file, byte) for byte in (start, stop))
        file.seek(first)
        found = lines(_Stretch(file, end - first), utf8=first > 0)  # type: ignore[arg-type]
        before = f"{start}:" if start else ""
        yield from ((f"{before}{n}", line) for n, line in enumerate(found, start=1))


def _line_from(file: pa.NativeFile, byte: int) -> int:
    """Where the first line begins that does so at a byte or after it."""
    if byte == 0:
        return 0
    place = byte - 1
    file.seek(place)
    while chunk := file.read(_LOOKED_AT):
        if (found := chunk.find(b"\n")) >= 0:
            return place + found + 1
        place += len(chunk)
    return place


class _Stretch:
    """A file's next bytes, so many of them."""

    def __init__(self, file: pa.NativeFile, left: int) -> None:
        self._file, self._left = file, left

    def read(self, size: int) -> bytes:
        raw = self._file.read(min(size, self._left))
        self._left -= len(raw)
        return raw
