"""Files wherever they lie, locally or by URI: found, listed and read."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from momo_platform.data.listing import named
from momo_platform.stages.errors import UserError

COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar", ".lz4")
_HIDDEN = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found"}


def open_uri(uri: str) -> tuple[pafs.FileSystem, str]:
    """The file system and path of a local path or URI."""
    if "://" in uri:
        return pafs.FileSystem.from_uri(uri)
    return pafs.LocalFileSystem(), str(Path(uri).expanduser().absolute())


@lru_cache(maxsize=64)
def filesystem_of(root: str) -> pafs.FileSystem:
    """The file system of a path or URI, connected once a process."""
    return open_uri(root)[0]


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


def list_files(uri: str, field_name: str, hint: str) -> list[pafs.FileInfo]:
    """All files at a path or below a folder, sorted. Raises UserError, with a `hint` what to give,
    when there are none."""
    source = named(field_name, uri)
    try:
        filesystem, path = open_uri(uri)
        info = filesystem.get_file_info(path)
        if info.type == pafs.FileType.NotFound:
            raise UserError(f"{source}: no such file or folder; {hint}")
        if info.type == pafs.FileType.File:
            return [info]
        if isinstance(filesystem, pafs.LocalFileSystem):
            found = filesystem.get_file_info(_walk(path))
        else:
            found = filesystem.get_file_info(pafs.FileSelector(path, recursive=True))
        found.sort(key=lambda f: f.path)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{source}: {error}; {hint}") from error
    except UnicodeError as error:
        raw = os.fsencode(getattr(error, "object", ""))
        raise UserError(
            f"{source}: a file's name is not UTF-8 ({raw!r:.200}); rename it"
        ) from error
    files = [f for f in found if f.type == pafs.FileType.File]
    if not files:
        raise UserError(f"{source}: the folder is empty; {hint}")
    return files


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
    return f", but {', '.join(found)}{remedy}" if found else ""


def read_file(root: str, path: str | None, at_most: int | None = None) -> bytes:
    """The bytes of a file; with no path, `root` is its own URI.

    Reads `at_most` bytes. Raises OSError or pyarrow.ArrowInvalid (a kind of URI that can't be read,
    or no regular file: a pipe would never end).
    """
    if path is None:
        filesystem, path = open_uri(root)
    else:
        filesystem = filesystem_of(root)
    if (
        isinstance(filesystem, pafs.LocalFileSystem)
        and filesystem.get_file_info(path).type == pafs.FileType.Unknown
    ):
        raise pa.ArrowInvalid(f"not a regular file: {path}")
    with filesystem.open_input_stream(path) as file:
        return file.read(at_most)


def read_span(root: str, path: str, offset: int, size: int) -> bytes:
    """Bytes of a larger file; fewer where it has become shorter."""
    with filesystem_of(root).open_input_file(path) as file:
        file.seek(offset)
        return file.read(size)
