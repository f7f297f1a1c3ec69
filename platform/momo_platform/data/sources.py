"""Corpora as people have them: folders, tables, text, tars, data sets; local or by URI.

What reads them is in `readers/`. A listing names what there is without reading pictures; bytes are
read later. Tasks list a unit each: a tar, a Parquet file that holds its pictures, or a whole source
where a row is known only from all its files. A listing takes about 1 kB of memory a file.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.fs as pafs

from momo_platform.data import filesystems
from momo_platform.data.config import Kind, SourceConfig
from momo_platform.data.filesystems import COMPRESSED, endings, is_hidden, list_files
from momo_platform.data.images import EXTENSIONS
from momo_platform.data.readers import (
    packed_endings,
    reader_at,
    reader_of,
    with_pictures,
    with_texts,
)
from momo_platform.data.readers.base import Corpus, Ignored, Reader
from momo_platform.stages.errors import UserError


def identify(uri: str, field_name: str, kind: Kind) -> str:
    """16 hex digits over relative names, sizes and times of a corpus.

    Raises UserError for one that is not there or of which nothing can be used, as far as a look at
    its beginning tells (look.py).
    """
    digest = hashlib.sha256()
    if whole := reader_of(uri):
        folder, revision = whole.folder(uri), whole.revision(uri)
        if folder is None:
            return revision
        digest.update(revision.encode())
        uri = folder
    files = list_files(uri, field_name, kind.hint)
    _, root = filesystems.open_place(uri)
    # Packed files are taken as they are, and so is what lies elsewhere: it is slow to read.
    taken = (
        whole or "://" in uri or any(file.path.lower().endswith(packed_endings()) for file in files)
    )
    if kind.look is not None and not taken:
        shown = [file for file in files if not is_hidden(file.path, root)]
        kind.look(uri, shown, field_name, kind)
    for file in files:
        name = posixpath.relpath(file.path, root)
        digest.update(f"{name}\0{file.size}\0{file.mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Unit:
    """What a task lists of a source: some of its files, or all that there is (`paths` None). `size`
    and `rows` are those of a `Share`."""

    source: str
    uri: str
    paths: tuple[str, ...] | None = None
    size: int | None = None
    rows: int | None = None


def list_corpus(
    name: str, uri: str, kind: Kind, more: Sequence[str] = (), ignored: Ignored | None = None
) -> Corpus:
    """A place's files for its readers; hidden ones are ignored."""
    others: list[pafs.FileInfo] = []
    files = {f.path: f.size or 0 for f in list_files(uri, kind.option, kind.hint, others)}
    _, root = filesystems.open_place(uri)
    shown = [path for path in files if not is_hidden(path, root)]
    corpus = Corpus(name, uri, kind, shown, more, files, ignored=ignored or Ignored())
    for path in files:
        if is_hidden(path, root):
            corpus.ignored.add("hidden", corpus.relative(path))
    for other in others:
        gone = other.type == pafs.FileType.NotFound
        reason = "a link to nothing" if gone else "neither a file nor a folder"
        corpus.ignored.add(reason, corpus.relative(other.path))
    return corpus


def _count_unread(corpus: Corpus, reader: Reader, read: Iterable[str]) -> None:
    """Count the files that were neither read nor used as ignored, each with its reason."""
    gone = corpus.used.union(read)
    for path in corpus.files:
        if path not in gone:
            corpus.ignored.add(_why_unread(path, corpus.kind, reader), corpus.relative(path))


def _why_unread(path: str, kind: Kind, reader: Reader) -> str:
    ending = posixpath.splitext(path)[1].lower()
    if ending in COMPRESSED:
        return f"compressed, decompress it: {ending}"
    if reader.packed:
        return f"beside {' or '.join(reader.pictures)}, which alone is read: {ending}"
    if ending in EXTENSIONS and kind.needs("picture"):
        return "a picture that no table names"
    return f"not read: {ending or 'files without an ending'}"


def _with_pictures(corpus: Corpus) -> tuple[Reader, Sequence[str]]:
    """The first reader that finds pictures in a folder: shards, tables beside their pictures, or
    pictures alone. Raises UserError where none does."""
    if found := with_pictures(corpus):
        return found
    kind, there = corpus.kind, endings(corpus.files)
    raise UserError(
        f"{kind.option} {corpus.uri}: no picture and no table in it{there}; {kind.hint}"
    )


def units_of(source: SourceConfig, uri: str, kind: Kind, ignored: Ignored) -> list[Unit]:
    """How tasks divide the listing of an image or pair corpus; `ignored` has what its folder shows
    not to be read, and `list_unit` adds the rest. Raises UserError."""
    if whole := reader_of(uri):
        shares = whole.units(Corpus(source.name, uri, kind), ())
        return [Unit(source.name, uri, tuple(p) or None, size, rows) for p, size, rows in shares]
    corpus = list_corpus(source.name, uri, kind, (), Ignored())
    reader, paths = _with_pictures(corpus)
    shares = reader.units(corpus, paths)
    if len(shares) == 1:
        return [Unit(source.name, uri, None, shares[0].size, shares[0].rows)]
    _count_unread(corpus, reader, paths)
    ignored.merge(corpus.ignored)
    return [Unit(source.name, uri, tuple(some), size, rows) for some, size, rows in shares]


def list_unit(
    unit: Unit, kind: Kind, more: Sequence[str] = (), ignored: Ignored | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of a unit by `ROW_SCHEMA`, in order; unreadable ones have a `reason`.

    `more` names columns of tables whose values a row has as `more`. At the end `ignored` has what
    of it was not read.
    """
    if unit.paths is not None:
        reader = reader_at(unit.uri, unit.paths[0])
        corpus = Corpus(unit.source, unit.uri, kind, unit.paths, more, divided=True)
        yield from reader.list(replace(corpus, ignored=ignored or Ignored()), unit.paths)
        return
    if whole := reader_of(unit.uri):
        yield from whole.list(Corpus(unit.source, unit.uri, kind, (), more), ())
        return
    corpus = list_corpus(unit.source, unit.uri, kind, more, ignored)
    reader, paths = _with_pictures(corpus)
    for row in reader.list(corpus, paths):
        if row["path"]:
            corpus.used.add(posixpath.normpath(row["path"]))
        yield row
    _count_unread(corpus, reader, paths)


def list_rows(
    source: SourceConfig,
    uri: str,
    kind: Kind,
    more: Sequence[str] = (),
    ignored: Ignored | None = None,
) -> Iterator[dict[str, Any]]:
    """All rows of an image or pair corpus, as `list_unit` has them."""
    return list_unit(Unit(source.name, uri), kind, more, ignored)


def text_places(uri: str, kind: Kind, ignored: Ignored | None = None) -> list[dict[str, Any]]:
    """What Ray tasks read at a time of a corpus of text: a file or a range of its lines, or a share
    of a data set. Raises UserError without any."""
    if whole := reader_of(uri):
        return [*whole.places(Corpus("", uri, kind), ())]
    corpus = list_corpus("", uri, kind, ignored=ignored)
    readers = with_texts(corpus.files)
    if not readers:
        there = endings(corpus.files)
        raise UserError(
            f"{kind.option} {uri}: no .txt, .jsonl, .parquet or .tar in it{there}; {kind.hint}"
        )
    _count_unread(corpus, readers[0][0], [path for _, path in readers])
    return [place for reader, path in readers for place in reader.places(corpus, [path])]
