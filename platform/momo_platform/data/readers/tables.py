"""Tables: JSONL, CSV, TSV and Parquet, with pictures in them, beside them or by URI."""

from __future__ import annotations

import json
import posixpath
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from momo_platform.data.columns import (
    CAPTION_NAMES,
    IMAGE_NAMES,
    JSON_NAME,
    TEXT_NAMES,
    DamagedTable,
    check_columns,
)
from momo_platform.data.filesystems import filesystem_of
from momo_platform.data.images import EXTENSIONS, BadImage
from momo_platform.data.listing import RowRef, file_ref, make_row
from momo_platform.data.readers.base import (
    Corpus,
    Document,
    Reader,
    Share,
    Stored,
    as_document,
    place_of,
)
from momo_platform.data.readers.line_ranges import line_ranges, lines_of
from momo_platform.data.readers.table_rows import (
    LINES,
    SEPARATED,
    TABLES,
    checked_names,
    columns_of,
    header_words,
    open_parquet,
    read_table_rows,
    why_unreadable,
)
from momo_platform.data.splits import estimate_documents
from momo_platform.data.text import parse_json

_ROWS_LOOKED_AT = 20
_WORDS = re.compile(r"[\s,;|\"]+")


def is_binary(kind: pa.DataType) -> bool:
    """Whether a column holds pictures' bytes, bare or in the layout of Hugging Face `datasets`."""
    if pa.types.is_struct(kind):
        return any(f.name == "bytes" and is_binary(f.type) for f in kind.fields)
    if pa.types.is_dictionary(kind):
        return is_binary(kind.value_type)
    return any(
        test(kind)
        for test in (
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_binary_view,
            pa.types.is_fixed_size_binary,
        )
    )


def embedded_column(schema: pa.Schema) -> str | None:
    """The column of a Parquet file that holds pictures' bytes, or None."""
    columns = (n for n in IMAGE_NAMES if n in schema.names and is_binary(schema.field(n).type))
    return next(columns, None)


def class_names(schema: pa.Schema) -> list[str]:
    """The names of the classes whose numbers stand in the column `label`, where Hugging Face
    `datasets` wrote them into the schema."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        return list(about["info"]["features"]["label"]["names"])
    except (ValueError, KeyError, TypeError):
        return []


def with_class(values: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any]:
    """A row with its class's name for the number."""
    label = values.get("label")
    if names and isinstance(label, int) and 0 <= label < len(names):
        return {**values, "label": names[label]}
    return values


class _Pictures:
    """The pictures of a Parquet file, read forwards in parts: of rows that follow each other every
    byte is read once, and what is held is 64 rows and a page, however large row groups are."""

    def __init__(self, root: str, path: str) -> None:
        opened = filesystem_of(root).open_input_file(path)
        self._file = open_parquet(opened)
        meta = self._file.metadata
        counts = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
        self._starts = [0, *accumulate(counts)]
        self._column = embedded_column(self._file.schema_arrow)
        self._seek(0)

    def _seek(self, row: int) -> None:
        """To the beginning of a row's row group."""
        group = bisect_right(self._starts, row) - 1
        self._first, self._values = self._starts[group], []
        groups = [*range(group, len(self._starts) - 1)]
        self._parts = self._file.iter_batches(64, row_groups=groups, columns=[self._column])

    def at(self, row: int) -> bytes | str | None:
        end = self._first + len(self._values)
        if row < self._first or self._starts[bisect_right(self._starts, row) - 1] > end:
            self._seek(row)
        while row >= self._first + len(self._values):
            self._first += len(self._values)
            if (part := next(self._parts, None)) is None:
                return None
            self._values = part.column(0)
        value = self._values[row - self._first].as_py()
        return value.get("bytes") or value.get("path") if isinstance(value, dict) else value


@lru_cache(maxsize=1)  # the parts of a task, and tasks of one process, go on where the last ended
def _pictures(root: str, path: str, size: int, mtime_ns: int) -> _Pictures:
    return _Pictures(root, path)


def read_embedded(root: str, path: str, rows: Iterable[int]) -> dict[int, bytes | str | None]:
    """Row → its picture's bytes (or path, or None) out of a Parquet file."""
    info = filesystem_of(root).get_file_info(path)
    try:
        pictures = _pictures(root, path, info.size or 0, info.mtime_ns or 0)
        return {row: pictures.at(row) for row in sorted(set(rows))}
    except BaseException:
        _pictures.cache_clear()
        raise


class Tables(Reader):
    """A row is a picture: its bytes, its path from the table's folder on, or its URI."""

    pictures = texts = hashed = TABLES

    def usable(self, corpus: Corpus, paths: Sequence[str]) -> Sequence[str]:
        """Those with a column of pictures, or whose first rows name some that are there. Others are
        refused when they are listed, or ignored where something else has pictures."""
        names = {posixpath.basename(f) for f in corpus.files if f.lower().endswith(EXTENSIONS)}
        if len(paths) == 1 and not names:
            return paths
        found, damaged = [], {}
        for path in paths:
            try:
                if _has_pictures(corpus, path, names):
                    found.append(path)
            except DamagedTable as error:
                damaged[path] = error
        its_own = [p for p in damaged if header_words(corpus.uri, p) & set(IMAGE_NAMES)]
        if not found and damaged and (its_own or not names):
            raise next(damaged[path] for path in its_own or damaged)
        if not found and not names:
            return paths
        # The header of a damaged Parquet or JSONL is not known: it is a shard beside others.
        shards = {posixpath.splitext(path)[1].lower() for path in found} - {*SEPARATED}
        kept = {*found, *its_own, *(p for p in damaged if p.lower().endswith(tuple(shards)))}
        for path in (path for path in paths if path not in kept):
            reason = "a table that can't be read" if path in damaged else "a table without pictures"
            corpus.ignored.add(reason, corpus.relative(path))
            corpus.used.add(path)
        return [path for path in paths if path in kept]

    def units(self, corpus: Corpus, paths: Sequence[str]) -> Sequence[Share]:
        """A Parquet file that holds its pictures is listed on its own; what other tables name is
        known from all of them."""
        shares = []
        for path in paths:
            if (share := _alone(corpus, path)) is None:
                return [Share(paths, None, estimate_documents(filesystem_of(corpus.uri), paths))]
            shares.append(share)
        return shares

    def list(self, corpus: Corpus, paths: Sequence[str]) -> Iterator[dict[str, Any]]:
        for path in paths:
            try:
                yield from _rows(corpus, path)
            except DamagedTable as error:
                if len(paths) == 1 and not corpus.divided:
                    raise
                row = make_row(corpus.name, corpus.relative(path), {}, corpus.uri)
                yield row | {"reason": str(error)}

    def read(self, root: str, path: str, rows: Sequence[int]) -> Mapping[int, Stored]:
        try:
            found = read_embedded(root, path, rows)
        except (pa.ArrowInvalid, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk or the network
            return dict.fromkeys(rows, BadImage(f"the table is damaged: {error}"))
        folder = posixpath.dirname(path)
        return {
            n: file_ref(root, folder, value) if value and isinstance(value, str) else value or None
            for n, value in found.items()
        }

    def places(self, corpus: Corpus, paths: Sequence[str]) -> Sequence[dict[str, Any]]:
        readable = [path for path in corpus.files if path.lower().endswith((".txt", *TABLES))]
        alone = len(readable) == 1
        return [
            place
            for path in paths
            for place in (
                line_ranges(corpus, path, alone=alone)
                if path.lower().endswith(LINES)
                else [place_of(corpus, path, alone=alone)]
            )
        ]

    def documents(self, place: Mapping[str, Any]) -> Iterator[Document]:
        try:
            if place.get("stop") is not None:
                rows = (
                    (number, parse_json(line)) for number, line in lines_of(place) if line.strip()
                )
                yield from (as_document(number, row) for number, row in rows)
                return
            columns = (*TEXT_NAMES, "split", "group")
            found = read_table_rows(filesystem_of(place["root"]), place["path"], columns)
            yield from (as_document(number, row) for number, row in found)
        except DamagedTable as error:
            if place.get("alone"):
                raise
            yield Document("", None, reason=str(error))


def _has_pictures(corpus: Corpus, path: str, names: set[str]) -> bool:
    columns = columns_of(corpus.uri, path, f"{corpus.kind.option} {path}")
    if columns is None or set(columns) & set(IMAGE_NAMES):
        return True
    rows = read_table_rows(filesystem_of(corpus.uri), path)
    values = (
        v for _, row in islice(rows, _ROWS_LOOKED_AT) if isinstance(row, dict) for v in row.values()
    )
    words = (word for value in values if isinstance(value, str) for word in _WORDS.split(value))
    return any(posixpath.basename(word) in names for word in words if "://" not in word)


def _alone(corpus: Corpus, path: str) -> Share | None:
    """A Parquet file that holds its pictures, else None; a damaged one too, which has its reason
    when it is listed."""
    if not path.lower().endswith(".parquet"):
        return None
    size = corpus.sizes.get(path, 0)
    try:
        footer = pq.read_metadata(path, filesystem=filesystem_of(corpus.uri))
        schema = footer.schema.to_arrow_schema()
    except (pa.ArrowInvalid, OSError):
        return Share([path], size)
    return None if embedded_column(schema) is None else Share([path], size, footer.num_rows)


def _rows(corpus: Corpus, path: str) -> Iterator[dict[str, Any]]:
    """Rows of one table by ROW_SCHEMA."""
    root, kind, name = corpus.uri, corpus.kind, corpus.relative(path)
    filesystem, what = filesystem_of(root), f"{kind.option} {path}"
    columns: set[str] | None = None
    embedded, classes = None, []
    if path.lower().endswith(".parquet"):
        try:
            schema = checked_names(pq.read_schema(path, filesystem=filesystem), what)
            embedded, classes = embedded_column(schema), class_names(schema)
        except (pa.ArrowInvalid, OSError) as error:
            raise why_unreadable(error, filesystem, path) from error
        check_columns(what, schema.names, kind, embedded=embedded is not None)
        columns = {*CAPTION_NAMES, JSON_NAME, "group", "split", "label", *corpus.more}
        columns |= set() if embedded else set(IMAGE_NAMES)
    checked = columns is not None
    for number, values in read_table_rows(filesystem, path, columns):
        key = f"{name}:{number}"
        if not checked and isinstance(values, dict) and path.lower().endswith(SEPARATED):
            check_columns(what, values, kind)
            checked = True
        if isinstance(values, str):
            yield make_row(corpus.name, key, {}, root) | {"reason": values}
            continue
        picture = None
        if embedded:
            # Zeros keep the file's order when rows are sorted: row groups are read in turn.
            key, picture = f"{name}:{number:09d}", RowRef(root, path, number - 1)
        values = with_class(values, classes)
        row = make_row(corpus.name, key, values, root, posixpath.dirname(path), picture)
        if corpus.more:
            row["more"] = {name: values.get(name) for name in corpus.more}
        yield row


READER = Tables()
