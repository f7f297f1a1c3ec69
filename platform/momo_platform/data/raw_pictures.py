"""The bytes of pictures as they are stored: files, spans of tars, rows of tables and data sets."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, cast

import pyarrow as pa

from momo_platform.data.filesystems import read_file, read_files, read_spans
from momo_platform.data.images import LARGEST_FILE, BadImage
from momo_platform.data.listing import FileRef, PictureRef, RowRef, SpanRef
from momo_platform.data.readers import reader_at
from momo_platform.data.readers.base import Stored

ROWS_HELD = 64
"""Pictures whose bytes a task holds at once, where a table or data set embeds them."""
_SHOWN = 500  # characters of a path in a reason
# What the operating system says of a path that no file can have.
_BAD_PATH = {errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.ENODEV}
_NO_FILE = re.compile("is a directory|not a regular file", re.IGNORECASE)
_REFUSED = re.compile("ACCESS_DENIED|NO_SUCH_|UNRECOGNIZED|credentials", re.IGNORECASE)
Found = Stored | SpanRef


class RawPicture(NamedTuple):
    """Where a picture is, for a row of a table what it holds of it; and what gives its bytes, or
    raises BadImage when there are none to be had."""

    place: Found
    raw: Callable[[], bytes]


def raw_pictures(refs: Sequence[PictureRef]) -> Iterator[RawPicture]:
    """Each picture in turn, to be read before the next is asked for. Neighbours in a tar are read
    at once, files in an object store ahead: about 64 MB are held at most, and what is asked for."""
    for (kind, root, path), group in groupby(refs, _together):
        some = [*group]
        if kind is SpanRef:
            yield from _in_tar(root, path, cast("list[SpanRef]", some))
        elif kind is FileRef:
            yield from _in_files(cast("list[FileRef]", some))
        else:
            for start in range(0, len(some), ROWS_HELD):
                for found in find_pictures(some[start : start + ROWS_HELD]):
                    yield RawPicture(found, lambda found=found: raw_picture(found))


def _together(ref: PictureRef) -> tuple[type, str, str]:
    """Pictures of one kind are read together, in tars those of each."""
    return (SpanRef, ref.root, ref.path) if isinstance(ref, SpanRef) else (type(ref), "", "")


def _in_tar(root: str, path: str, refs: Sequence[SpanRef]) -> Iterator[RawPicture]:
    spans = read_spans(root, path, [(ref.offset, ref.size) for ref in refs])
    for ref, raw in zip(refs, spans, strict=True):
        yield RawPicture(ref, lambda ref=ref, raw=raw: _whole(ref, raw))


def _whole(ref: SpanRef, raw: bytes) -> bytes:
    if len(raw) < ref.size:
        raise BadImage("the tar is shorter than when it was listed")
    return raw


def _in_files(refs: Sequence[FileRef]) -> Iterator[RawPicture]:
    named = ((ref.root, ref.path) for ref in refs if _why_not(ref) is None)
    reads = read_files(named, LARGEST_FILE + 1)
    for ref in refs:
        read = next(reads) if _why_not(ref) is None else _nothing
        yield RawPicture(ref, lambda ref=ref, read=read: _of_file(ref, read))


def find_pictures(refs: Sequence[PictureRef]) -> list[Found]:
    """What is at each place: rows are looked up in their tables; files are not opened yet."""
    rows: dict[tuple[str, str], list[int]] = {}
    for ref in refs:
        if isinstance(ref, RowRef):
            rows.setdefault((ref.root, ref.path), []).append(ref.row)
    held = {place: reader_at(*place).read(*place, numbers) for place, numbers in rows.items()}
    return [
        held[ref.root, ref.path].get(ref.row) if isinstance(ref, RowRef) else ref for ref in refs
    ]


def raw_picture(found: Found) -> bytes:
    """The picture's bytes as they are stored. Raises BadImage when there are none to be had."""
    if isinstance(found, bytes):
        return found
    if isinstance(found, BadImage):
        raise found
    if isinstance(found, SpanRef):
        (raw,) = read_spans(found.root, found.path, [(found.offset, found.size)])
        return _whole(found, raw)
    if found is None:
        raise BadImage("the row names no picture")
    return _of_file(found, lambda: read_file(found.root, found.path, LARGEST_FILE + 1))


def _nothing() -> bytes:
    return b""


def _why_not(ref: FileRef) -> str | None:
    """Why a file need not be looked for, or None."""
    if ref.path == "" or (ref.path or "").endswith("/"):
        return "the row names no picture"
    if ref.root.startswith(("http://", "https://")):
        return f"the picture is a web address; fetch it with img2dataset: {ref.root}"
    if ref.root.startswith("hf://"):
        return f"the picture is a file on the hub; download the set first: {ref.path}"
    return None


def _of_file(ref: FileRef, read: Callable[[], bytes]) -> bytes:
    """What `read` gives. Raises BadImage where the file can't be had."""
    if (why := _why_not(ref)) is not None:
        raise BadImage(why)
    try:
        return read()
    except FileNotFoundError:
        raise BadImage(f"the picture does not exist: {(ref.path or ref.root)[:_SHOWN]}") from None
    except (NotADirectoryError, IsADirectoryError, PermissionError, pa.ArrowInvalid) as error:
        raise BadImage(f"the picture can't be opened: {str(error)[:_SHOWN]}") from error
    except OSError as error:
        own_check = error.errno is None and _NO_FILE.search(str(error))  # pyarrow's
        refused = ref.path is None and _REFUSED.search(str(error))  # a place of its own
        if own_check or refused or error.errno in _BAD_PATH:
            raise BadImage(f"the picture can't be opened: {str(error)[:_SHOWN]}") from error
        raise  # the disk or the network: not this row's fault
