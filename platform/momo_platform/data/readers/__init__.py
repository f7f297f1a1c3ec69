"""What reads a corpus, by the kind of place or file that it comes in, one file each. How to add
one: docs/extending/reader.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module

from momo_platform.data.readers.base import Corpus, Reader

_FILES = (  # where several find pictures in a folder, the first one's are read
    "hub",
    "tar",
    "tables",
    "files",
)
READERS: tuple[Reader, ...] = tuple(import_module(f"{__name__}.{name}").READER for name in _FILES)


def reader_of(uri: str) -> Reader | None:
    """The reader of a whole place, or None where its files are read."""
    return next((reader for reader in READERS if reader.takes(uri)), None)


def reader_at(root: str, path: str) -> Reader:
    """The reader of what was listed in a place: of the whole, or of a file."""
    if whole := reader_of(root):
        return whole
    return next(r for r in READERS if path.lower().endswith((*r.pictures, *r.texts)))


def with_pictures(corpus: Corpus) -> tuple[Reader, Sequence[str]] | None:
    """The reader of the pictures in a folder, and its files."""
    for reader in READERS:
        found = [path for path in corpus.files if path.lower().endswith(reader.pictures)]
        if found := found and reader.usable(corpus, found):
            return reader, found
    return None


def with_texts(paths: Iterable[str]) -> list[tuple[Reader, str]]:
    """The files with documents in a folder, each with its reader; packed ones alone if any is."""
    found = [(r, p) for p in paths for r in READERS if p.lower().endswith(r.texts)]
    return [(r, p) for r, p in found if r.packed] or found


def packed_endings() -> tuple[str, ...]:
    """Endings of the files beside which nothing else is read."""
    return tuple(ending for reader in READERS if reader.packed for ending in reader.pictures)


def hashed_endings() -> tuple[str, ...]:
    """Endings of the files whose checksums are made of the whole."""
    return tuple(ending for reader in READERS for ending in reader.hashed)
