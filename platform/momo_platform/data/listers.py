"""What a preparation lists before it reads: pictures, places of text, or plain files."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from momo_platform.data.config import Kind, PrepareConfig, SourceConfig
from momo_platform.data.digests import blocks_to_hash
from momo_platform.data.filesystems import filesystem_of
from momo_platform.data.listing import ROW_SCHEMA
from momo_platform.data.readers import reader_of
from momo_platform.data.readers.base import Ignored
from momo_platform.data.sources import Unit, list_corpus, list_unit, text_places, units_of
from momo_platform.data.splits import Division, about, divide_rows, estimate_documents, shares

_REASON = pa.field("reason", pa.string())


class Lister:
    """Lists rows by `schema`: at least `source`, and what its mapper reads. Tasks list a unit each,
    in order; `ignored` counts what is passed over. A column `size` holds bytes that a task will
    read."""

    schema: pa.Schema
    counted = True
    """Whether a row of the listing becomes one that is prepared."""

    def units(self, source: SourceConfig, uri: str, kind: Kind, ignored: Ignored) -> list[Unit]:
        """How tasks divide a source's listing. Raises UserError."""
        return [Unit(source.name, uri)]

    def rows(self, unit: Unit, kind: Kind, ignored: Ignored) -> Iterator[dict[str, Any]]:
        """The rows of a unit, with a `reason` where they can't be used."""
        raise NotImplementedError

    def to_hash(self, source: SourceConfig, uri: str, kind: Kind) -> list[pa.Table]:
        """Blocks of files for `hash_files`: those whose mapper gives no checksum."""
        return blocks_to_hash(source, uri, kind)

    def division(
        self, rows: Sequence[dict[str, Any]], config: PrepareConfig, more: float
    ) -> Division:
        """Which groups are held out, from the first of the rows; `more`: how many there are for
        each of these."""
        return divide_rows(rows, config.held_out, config.valid, more)


class ListPictures(Lister):
    """Pictures by ROW_SCHEMA, with captions where the kind needs them."""

    schema = ROW_SCHEMA.append(_REASON)

    def units(self, source: SourceConfig, uri: str, kind: Kind, ignored: Ignored) -> list[Unit]:
        return units_of(source, uri, kind, ignored)

    def rows(self, unit: Unit, kind: Kind, ignored: Ignored) -> Iterator[dict[str, Any]]:
        return list_unit(unit, kind, (), ignored)


class ListTexts(Lister):
    """Places of documents: files, ranges of them, shares of data sets."""

    schema = pa.schema(
        {n: pa.string() for n in ("source", "root", "path", "split")}
        | {n: pa.int64() for n in ("start", "stop", "size")}
        | {"alone": pa.bool_()}
    )
    counted = False

    def units(self, source: SourceConfig, uri: str, kind: Kind, ignored: Ignored) -> list[Unit]:
        places = text_places(uri, kind)
        return [Unit(source.name, uri, None, sum(p["size"] for p in places), len(places))]

    def rows(self, unit: Unit, kind: Kind, ignored: Ignored) -> Iterator[dict[str, Any]]:
        for place in text_places(unit.uri, kind, ignored):
            yield {"source": unit.source} | place

    def division(
        self, rows: Sequence[dict[str, Any]], config: PrepareConfig, more: float
    ) -> Division:
        documents = _count_documents(rows) if config.held_out is None else 0
        return about(shares(round(more * documents), config.held_out, config.valid))


def _count_documents(places: Sequence[dict[str, Any]]) -> int:
    """About how many documents there are; of data sets exactly."""
    files: dict[str, dict[str, None]] = {}
    count = 0
    for place in places:
        if place.get("stop") is not None and reader_of(place["root"]):
            count += place["stop"] - place["start"]
        else:
            files.setdefault(place["root"], {})[place["path"]] = None
    return count + sum(estimate_documents(filesystem_of(r), [*paths]) for r, paths in files.items())


class ListFiles(Lister):
    """Files on their own with one of these endings (lower case), each a row and a group."""

    schema = pa.schema(
        {n: pa.string() for n in ("source", "key", "group", "split", "root", "path")}
        | {"size": pa.int64()}
    ).append(_REASON)

    def __init__(self, *endings: str) -> None:
        self.endings = endings

    def units(self, source: SourceConfig, uri: str, kind: Kind, ignored: Ignored) -> list[Unit]:
        sizes = [row["size"] for row in self.rows(Unit(source.name, uri), kind, Ignored())]
        return [Unit(source.name, uri, None, sum(sizes), len(sizes))]

    def rows(self, unit: Unit, kind: Kind, ignored: Ignored) -> Iterator[dict[str, Any]]:
        corpus = list_corpus(unit.source, unit.uri, kind, (), ignored)
        for path in corpus.files:
            key, ending = corpus.relative(path), posixpath.splitext(path)[1].lower()
            if ending not in self.endings:
                ignored.add(f"not read: {ending or 'files without an ending'}", key)
                continue
            row = {"source": unit.source, "key": key, "group": key, "split": "", "reason": None}
            yield row | {"root": unit.uri, "path": path, "size": corpus.sizes[path]}

    def to_hash(self, source: SourceConfig, uri: str, kind: Kind) -> list[pa.Table]:
        return []
