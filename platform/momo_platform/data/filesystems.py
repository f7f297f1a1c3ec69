"""Files wherever they lie, locally or by URI: found, listed and read."""

from __future__ import annotations

import os
import posixpath
import urllib.parse
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from momo_platform.data import patterns
from momo_platform.data.listing import named
from momo_platform.data.patterns import root_of
from momo_platform.stages.errors import UserError

READ_BYTES = 2**23
"""At least so much an object store is asked for at once, where there is so much: a request costs as
long as about 3 MB do."""
_GAP = 2**22  # between spans that are read at once
_THREADS, _AHEAD, _BEGINNING = 8, 15, 2**22
COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar", ".lz4")
_HIDDEN = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found"}


def open_uri(uri: str) -> tuple[pafs.FileSystem, str]:
    """The file system and path of a local path or URI; `hf:///folder` is a local one."""
    uri = uri.removeprefix("hf://") if uri.startswith("hf:///") else uri
    if "://" in uri:
        return pafs.FileSystem.from_uri(uri)
    return pafs.LocalFileSystem(), str(Path(uri).expanduser().absolute())


def open_place(place: str) -> tuple[pafs.FileSystem, str]:
    """The same of a corpus's place, which may be a pattern: of the folder that its files lie in."""
    return open_uri(root_of(place))


@lru_cache(maxsize=64)
def filesystem_of(root: str) -> pafs.FileSystem:
    """The file system of a corpus's place, connected once a process."""
    return open_place(root)[0]


def _walk(root: str) -> list[str]:
    """Paths of the files below a local folder. Links to folders are followed, each folder once, and
    by a link only where it has no place of its own below `root`."""
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    folders, links = [root], []
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        try:
            entries = [*os.scandir(folder)]
        except PermissionError:
            if is_hidden(folder, root):
                continue  # the system's own, as lost+found
            raise
        for entry in entries:
            if not os.path.isdir(entry.path):  # `entry.is_dir` fails on a link to itself
                found.append(entry.path)
            else:
                (links if entry.is_symlink() else folders).append(entry.path)
        links.sort()
    return found


def list_files(
    uri: str, field_name: str, hint: str, others: list[pafs.FileInfo] | None = None
) -> list[pafs.FileInfo]:
    """All files at a path or below a folder, or that a pattern stands for, sorted. Raises
    UserError, with a `hint` what to give, when there are none. `others` is given what is neither
    file nor folder: links to nothing, pipes.
    """
    source = named(field_name, uri)
    try:
        filesystem, path = open_place(uri)
        if patterns.is_pattern(uri):
            found = patterns.find(uri, filesystem, path)
        else:
            found = [filesystem.get_file_info(path)]
            if found[0].type == pafs.FileType.NotFound:
                raise UserError(f"{source}: no such file or folder; {hint}")
        folders = [info.path for info in found if info.type == pafs.FileType.Directory]
        found += [info for folder in folders for info in _below(filesystem, folder)]
    except patterns.BadPattern as error:
        raise UserError(f"{named(field_name, str(error))}; {hint}") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{source}: {error}; {hint}") from error
    except UnicodeError as error:
        raw = os.fsencode(getattr(error, "object", ""))
        raise UserError(
            f"{source}: a file's name is not UTF-8 ({raw!r:.200}); rename it"
        ) from error
    found = [info for _, info in sorted({info.path: info for info in found}.items())]
    files = [f for f in found if f.type == pafs.FileType.File]
    if others is not None:
        known = (pafs.FileType.File, pafs.FileType.Directory)
        others += [f for f in found if f.type not in known]
    if not files:
        raise UserError(f"{source}: the folder is empty; {hint}")
    return files


def _below(filesystem: pafs.FileSystem, folder: str) -> list[pafs.FileInfo]:
    if isinstance(filesystem, pafs.LocalFileSystem):
        return filesystem.get_file_info(_walk(folder))
    return filesystem.get_file_info(pafs.FileSelector(folder, recursive=True))


def is_hidden(path: str, root: str) -> bool:
    """Whether a file below `root`, or a folder that it lies in there, is for a system's own use."""
    if path == root:
        return False
    parts = posixpath.relpath(path, root).split("/")
    return any(part.startswith(".") or part.lower() in _HIDDEN for part in parts)


def endings(paths: Iterable[str]) -> str:
    """For messages: what kinds of files there are, with a comma in front; "" without any."""
    counts = Counter(posixpath.splitext(path)[1].lower() or "without ending" for path in paths)
    found = [f"{count} {ending}" for ending, count in counts.most_common(4)]
    remedy = " (decompress them)" if set(counts) & set(COMPRESSED) else ""
    if ".json" in counts:
        remedy += " (of .json only .jsonl is read, a row on each line)"
    return f", but {', '.join(found)}{remedy}" if found else ""


def is_local(root: str) -> bool:
    """Whether what lies there is read without asking an object store for each piece."""
    return "://" not in root or root.startswith(("file:", "hf:///"))


def _place_of(uri: str) -> tuple[pafs.FileSystem, str]:
    """File system and path of a file's own URI; files of a bucket share a connection."""
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme not in ("s3", "gs", "gcs") or not parts.path.strip("/"):
        return open_uri(uri)
    bucket = urllib.parse.urlunsplit(parts._replace(path="", fragment=""))
    path = urllib.parse.unquote(parts.path)
    return filesystem_of(bucket), parts.netloc.rpartition("@")[2] + path


def _opened(root: str, path: str | None) -> pa.NativeFile:
    filesystem, path = _place_of(root) if path is None else (filesystem_of(root), path)
    if (
        isinstance(filesystem, pafs.LocalFileSystem)
        and filesystem.get_file_info(path).type == pafs.FileType.Unknown
    ):
        raise pa.ArrowInvalid(f"not a regular file: {path}")
    return filesystem.open_input_stream(path)


def read_file(root: str, path: str | None, at_most: int | None = None) -> bytes:
    """The bytes of a file; with no path, `root` is its own URI.

    Reads `at_most` bytes. Raises OSError or pyarrow.ArrowInvalid (a kind of URI that can't be read,
    or no regular file: a pipe would never end).
    """
    with _opened(root, path) as file:
        return file.read(at_most)


def read_files(
    places: Iterable[tuple[str, str | None]], at_most: int | None = None
) -> Iterator[Callable[[], bytes]]:
    """For each place what gives the bytes that `read_file` does, or raises what it raises; to be
    called in turn. Files in object stores are read a few at a time, and ahead: 64 MB at most."""
    with ThreadPoolExecutor(_THREADS) as pool:
        ahead: deque[Callable[[], bytes]] = deque()
        for place in places:
            if is_local(place[0]):
                ahead.append(partial(read_file, *place, at_most))
            else:
                ahead.append(partial(_rest, pool.submit(_beginning, *place, at_most), at_most))
            if len(ahead) > _AHEAD:
                yield ahead.popleft()
        yield from ahead


def _beginning(
    root: str, path: str | None, at_most: int | None
) -> tuple[bytes, pa.NativeFile | None]:
    """The first bytes of a file, and the file if there may be more."""
    file = _opened(root, path)
    raw = file.read(min(at_most or _BEGINNING, _BEGINNING))
    return raw, file if len(raw) == _BEGINNING else None


def _rest(begun: Future[tuple[bytes, pa.NativeFile | None]], at_most: int | None) -> bytes:
    raw, file = begun.result()
    return raw if file is None else raw + file.read(at_most and at_most - len(raw))


def read_spans(root: str, path: str, spans: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """Bytes of a larger file at (offset, size) each; fewer where it has become shorter.

    Spans in the file's order that are near each other are read at once with what is between them,
    so that a request is for 8 to 24 MB, however small they are, or for one large span.
    """
    with filesystem_of(root).open_input_file(path) as file:
        for some in _near_each_other(spans):
            start = min(offset for offset, _ in some)
            raw = memoryview(file.read_at(max(o + size for o, size in some) - start, start))
            for offset, size in some:
                yield bytes(raw[offset - start : offset - start + size])


def _near_each_other(spans: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Which spans are read at once."""
    end = max((offset + size for offset, size in spans), default=0)
    some: list[tuple[int, int]] = []
    low = high = 0
    for offset, size in spans:
        stop = offset + size
        wide = max(high, stop) - min(low, offset)
        apart = offset > high + _GAP or stop < low - _GAP
        enough = wide > 2 * READ_BYTES and end - offset >= READ_BYTES
        if some and (apart or enough or wide > 3 * READ_BYTES):
            yield some
            some = []
        low, high = (min(low, offset), max(high, stop)) if some else (offset, stop)
        some.append((offset, size))
    if some:
        yield some


class BlockFile:
    """A file that is read in blocks, of which the last two are kept: forwards, with small steps
    back, as a tar's headers are. `size` is the file's."""

    def __init__(self, file: pa.NativeFile, block: int) -> None:
        self._file, self._block, self.size = file, block, file.size()
        self._place, self._kept = 0, dict[int, bytes]()

    def seek(self, place: int) -> None:
        self._place = place

    def read(self, count: int) -> bytes:
        """Fewer bytes at the end."""
        stop, parts = min(self._place + count, self.size), []
        while self._place < stop:
            number, begin = divmod(self._place, self._block)
            parts.append(self._at(number)[begin : begin + stop - self._place])
            if not parts[-1]:
                break  # it has become shorter
            self._place += len(parts[-1])
        return b"".join(parts)

    def _at(self, number: int) -> bytes:
        if number not in self._kept:
            if len(self._kept) == 2:
                del self._kept[next(iter(self._kept))]
            self._kept[number] = self._file.read_at(self._block, number * self._block)
        return self._kept[number]
