"""Corpora as people have them: folders, tables, text, tars, data sets; local or by URI.

What reads them is in `readers/`. `list_rows` names what there is without reading pictures; bytes
are read later, in Ray tasks. A listing takes about 1 kB of memory a row.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator, Sequence
from typing import Any

from momo_platform.data import filesystems
from momo_platform.data.config import Kind, SourceConfig
from momo_platform.data.filesystems import list_files
from momo_platform.data.readers import READERS, reader_of, with_pictures, with_texts
from momo_platform.data.readers.base import Corpus
from momo_platform.stages.errors import UserError

_PACKED = tuple(e for reader in READERS if reader.packed for e in reader.pictures)


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
    # Packed files are taken as they are, and so is what lies elsewhere: it is slow to read.
    taken = whole or "://" in uri or any(file.path.lower().endswith(_PACKED) for file in files)
    if kind.look is not None and not taken:
        kind.look(uri, files, field_name, kind)
    _, root = filesystems.open_uri(uri)
    for file in files:
        name = posixpath.relpath(file.path, root)
        digest.update(f"{name}\0{file.size}\0{file.mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def list_rows(
    source: SourceConfig, uri: str, kind: Kind, more: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Rows of an image or pair corpus by `ROW_SCHEMA`, in order; unreadable ones have a `reason`.

    Of a folder the first reader that finds pictures in it reads them: shards, tables beside their
    pictures, or pictures alone. `more` names columns of tables whose values a row has as `more`.
    """
    if whole := reader_of(uri):
        yield from whole.list(Corpus(source.name, uri, kind, (), more), ())
        return
    files = [file.path for file in list_files(uri, kind.option, kind.hint)]
    found = with_pictures(files)
    if found is None:
        raise UserError(f"{kind.option} {uri}: no picture and no table in it; {kind.hint}")
    reader, paths = found
    yield from reader.list(Corpus(source.name, uri, kind, files, more), paths)


def text_places(uri: str, kind: Kind) -> list[dict[str, Any]]:
    """What Ray tasks read at a time of a corpus of text: a file, or a share of a data set. Raises
    UserError without any."""
    if whole := reader_of(uri):
        return [*whole.places(Corpus("", uri, kind), ())]
    files = [file.path for file in list_files(uri, kind.option, kind.hint)]
    corpus = Corpus("", uri, kind, files)
    found = [place for r, path in with_texts(files) for place in r.places(corpus, [path])]
    if not found:
        raise UserError(
            f"{kind.option} {uri}: no .txt, .jsonl, .parquet or .tar in it; {kind.hint}"
        )
    return found
