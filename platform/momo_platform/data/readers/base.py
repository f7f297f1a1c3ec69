"""What a reader is: it knows one kind of place or of file that corpora come in."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from momo_platform.data import filesystems
from momo_platform.data.columns import TEXT_NAMES
from momo_platform.data.config import Kind
from momo_platform.data.images import BadImage
from momo_platform.data.listing import FileRef

_EXAMPLES = 3
Stored = bytes | FileRef | BadImage | None
"""What a row holds of its picture: the bytes, the file it names, why there is none, or nothing."""


class Document(NamedTuple):
    """A text, or the reason why it can't be used. `number`: its name in its file; `split` as it is
    written; `group`: what must not be divided between splits."""

    number: str
    text: str | None
    split: str = ""
    reason: str | None = None
    group: str = ""


def as_document(number: int | str, row: Mapping[str, Any] | str) -> Document:
    """Of a table's row, or of the reason why it can't be read."""
    if isinstance(row, str):
        return Document(str(number), None, reason=row)
    text = next((row[n] for n in TEXT_NAMES if isinstance(row.get(n), str | bytes)), None)
    reason = None
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError:
            text, reason = None, "the text is not UTF-8"
    if text is None:
        reason = reason or "the row has no text"
    group = "" if row.get("group") is None else str(row["group"])
    return Document(str(number), text, str(row.get("split") or ""), reason, group)


class Share(NamedTuple):
    """Files that a task lists, their bytes (None: what they name is elsewhere), and about how many
    rows they have (None: as many a byte as others)."""

    paths: Sequence[str]
    size: int | None
    rows: int | None = None


def a_file_each(corpus: Corpus, paths: Sequence[str]) -> list[Share]:
    return [Share([path], corpus.sizes.get(path, 0)) for path in paths]


@dataclass
class Ignored:
    """What of a source is not read, by reason: how much, and the names of some of it."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        self.counts[reason] += 1
        named = self.examples.setdefault(reason, [])
        if len(named) < _EXAMPLES:
            named.append(name)

    def merge(self, other: Ignored) -> None:
        """Add what is not read of what comes after this."""
        self.counts += other.counts
        for reason, names in other.examples.items():
            own = self.examples.setdefault(reason, [])
            own += names[: _EXAMPLES - len(own)]

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"counts": dict(self.counts), "examples": self.examples}

    @staticmethod
    def of(document: Mapping[str, Any]) -> Ignored:
        """Inverse of `document`."""
        return Ignored(Counter(document["counts"]), document["examples"])


@dataclass(frozen=True)
class Corpus:
    """A source as its readers are given it: its name and place, all `files` that are there, and
    the names of `more` columns whose values rows have as `more`. Readers note in `used` which files
    beside their own they read, and in `ignored` what they leave out of what is theirs. `sizes` in
    bytes are those of the files; of a `divided` corpus others list the rest."""

    name: str
    uri: str
    kind: Kind
    files: Sequence[str] = ()
    more: Sequence[str] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    divided: bool = False
    used: set[str] = field(default_factory=set)
    ignored: Ignored = field(default_factory=Ignored)

    @cached_property
    def root(self) -> str:
        """The place's path in its file system."""
        return filesystems.open_place(self.uri)[1]

    def relative(self, path: str) -> str:
        """A file's name below the corpus's folder."""
        if path == self.root:
            return posixpath.basename(path)
        return posixpath.relpath(path, self.root)


def place_of(corpus: Corpus, path: str, **more: Any) -> dict[str, Any]:
    """One of a reader's `places`."""
    return {"root": corpus.uri, "path": path, "size": corpus.sizes.get(path, 0), **more}


class Reader:
    """Most readers know files by their endings (lower case): `pictures` of those whose rows have
    pictures, `texts` of those with documents; `hashed` are read for their checksums, which pictures
    on their own are not: theirs are made when they are prepared. Beside `packed` files nothing
    else is read. A reader that knows whole places overrides `takes`.
    """

    pictures: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    hashed: tuple[str, ...] = ()
    packed = False

    def takes(self, uri: str) -> bool:
        """Whether this reader alone reads a place."""
        return False

    def folder(self, uri: str) -> str | None:
        """The path or URI of a place's files; None where they can't be listed."""
        return uri

    def revision(self, uri: str) -> str:
        """What tells a place's content beside its files' names, sizes and times."""
        return ""

    def checksums(self, uri: str) -> Sequence[Mapping[str, Any]]:
        """Of the files behind a place that has no folder: `root`, `path`, the name to be `shown`;
        `size`, and `sha256` where it is known."""
        return ()

    def usable(self, corpus: Corpus, paths: Sequence[str]) -> Sequence[str]:
        """Of the files whose endings are this reader's, those with pictures."""
        return paths

    def units(self, corpus: Corpus, paths: Sequence[str]) -> Sequence[Share]:
        """How tasks share the listing of these files: one has all, unless a file's rows are known
        from that file alone."""
        return [Share(paths, sum(corpus.sizes.get(path, 0) for path in paths), len(paths))]

    def list(self, corpus: Corpus, paths: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Rows by ROW_SCHEMA, with a `reason` where they can't be used, of the files `paths`, or of
        the place. Reads no picture. Raises UserError for what can't be read at all."""
        raise NotImplementedError

    def places(self, corpus: Corpus, paths: Sequence[str]) -> Sequence[dict[str, Any]]:
        """What tasks read documents of, one each: root, path, size in bytes and, of a part, its
        rows or bytes from `start` to `stop`."""
        return [place_of(corpus, path) for path in paths]

    def documents(self, place: Mapping[str, Any]) -> Iterator[Document]:
        """In a task: the documents of one of `places`."""
        raise NotImplementedError

    def read(self, root: str, path: str, rows: Sequence[int]) -> Mapping[int, Stored]:
        """In a task: what rows, by the numbers of their RowRef, hold of their pictures."""
        raise NotImplementedError
