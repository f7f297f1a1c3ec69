"""Tables: JSONL, CSV, TSV and Parquet, with pictures in them, beside them or by URI."""

from __future__ import annotations

import codecs
import json
import posixpath
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, islice
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from momo_platform.data.columns import CAPTION_NAMES, IMAGE_NAMES, TEXT_NAMES, check_columns
from momo_platform.data.csv_text import check_names, csv_rows
from momo_platform.data.encodings import to_utf8
from momo_platform.data.filesystems import filesystem_of
from momo_platform.data.images import EXTENSIONS, BadImage
from momo_platform.data.listing import RowRef, file_ref, make_row
from momo_platform.data.readers.base import Corpus, Document, Reader, Stored, as_document
from momo_platform.data.text import lines, parse_json
from momo_platform.stages.errors import UserError

LINES = (".jsonl", ".ndjson")
_SEPARATED = (".csv", ".tsv")
TABLES = (".parquet", *LINES, *_SEPARATED)
_LOOKED_AT = 2**18
_BUFFER = 2**23  # of a column, read at a time
_ROWS_LOOKED_AT = 20
_WORDS = re.compile(r"[\s,;|\"]+")


def is_binary(kind: pa.DataType) -> bool:
    """Whether a column holds pictures' bytes, bare or in the layout of Hugging Face `datasets`."""
    if pa.types.is_struct(kind):
        return any(f.name == "bytes" and is_binary(f.type) for f in kind.fields)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


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


def _parquet(opened: pa.NativeFile) -> pq.ParquetFile:
    """Read in parts: `pre_buffer` would read the whole of a row group's columns first."""
    return pq.ParquetFile(opened, buffer_size=_BUFFER, pre_buffer=False)


class _Pictures:
    """The pictures of a Parquet file, read forwards in parts: of rows that follow each other every
    byte is read once, and what is held is 64 rows and a page, however large row groups are."""

    def __init__(self, root: str, path: str) -> None:
        opened = filesystem_of(root).open_input_file(path)
        self._file = _parquet(opened)
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


def batch_rows(batch: pa.RecordBatch | pa.Table) -> list[dict[str, Any] | str]:
    """A batch's rows; one whose strings are not UTF-8, or dates out of range, is a reason text."""
    try:
        return batch.to_pylist()
    except (ValueError, OverflowError):
        pass
    rows: list[dict[str, Any] | str] = []
    for i in range(len(batch)):
        try:
            rows += batch.slice(i, 1).to_pylist()
        except (ValueError, OverflowError) as error:
            what = "is not UTF-8" if isinstance(error, UnicodeError) else f"has no value: {error}"
            rows.append(f"the row {what}")
    return rows


def read_table_rows(
    filesystem: pafs.FileSystem, path: str, columns: Iterable[str] | None = None
) -> Iterator[tuple[int, Any]]:
    """(row number from 1, dictionary) of a JSONL, CSV, TSV or Parquet file; a stream but for CSV.

    A row that can't be read comes as (number, reason text). `columns`: those to read of Parquet.
    """
    if path.lower().endswith(".parquet"):
        number = 0
        try:
            with filesystem.open_input_file(path) as opened, _parquet(opened) as file:
                names = set(_checked(file.schema_arrow, path).names)
                chosen = None if columns is None else sorted(names & set(columns))
                if chosen == []:
                    yield from ((n, {}) for n in range(1, file.metadata.num_rows + 1))
                    return
                for batch in file.iter_batches(1024, columns=chosen):
                    for row in batch_rows(batch):
                        number += 1
                        yield number, row
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{path} is not readable Parquet: {error}; replace it") from error
        return
    with filesystem.open_input_stream(path) as file:
        if path.lower().endswith(LINES):
            for number, line in enumerate(lines(file), start=1):
                if line.strip():
                    yield number, parse_json(line)
            return
        raw = file.read()
    try:
        text = to_utf8(raw).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 at byte {error.start}: save it as UTF-8") from error
    yield from csv_rows(text, path)


def columns_of(root: str, path: str, what: str) -> tuple[str, ...] | None:
    """Names of a table's columns; () where no row can be read, None where that can't be told from
    the table's beginning. Of JSONL: those of all rows that were looked at. `what` names option and
    file in errors.

    Raises UserError for a table that preparation can't read either.
    """
    filesystem = filesystem_of(root)
    try:
        if path.lower().endswith(".parquet"):
            found = pq.read_metadata(path, filesystem=filesystem)
            names = tuple(_checked(found.schema.to_arrow_schema(), what).names)
            return names if found.num_rows else ()
        with filesystem.open_input_stream(path) as file:
            return _of_jsonl(file) if path.lower().endswith(LINES) else _of_csv(file, what)
    except pa.ArrowInvalid as error:
        kind = "Parquet" if path.lower().endswith(".parquet") else "text"
        raise UserError(f"{what} is not readable {kind}: {error}; replace it") from error
    except OSError as error:
        raise UserError(f"{what} can't be read: {error}") from error


def _checked(schema: pa.Schema, what: str) -> pa.Schema:
    check_names(schema.names, what)
    return schema


def _of_jsonl(file: pa.NativeFile) -> tuple[str, ...] | None:
    names: dict[str, None] = {}
    read = 0
    for line in lines(file):
        row = parse_json(line) if line.strip() else ""
        names |= dict.fromkeys(row if isinstance(row, dict) else ())
        read += len(line)
        if read >= _LOOKED_AT:
            return tuple(names) or None
    return tuple(names)


def _of_csv(file: pa.NativeFile, what: str) -> tuple[str, ...] | None:
    raw = file.read(_LOOKED_AT)
    whole = not file.read(1)
    try:
        # The end of what was read may be within a character.
        text = codecs.getincrementaldecoder("utf-8")().decode(to_utf8(raw), final=whole)
    except UnicodeDecodeError as error:
        raise UserError(f"{what} is not UTF-8 at byte {error.start}: save it as UTF-8") from error
    reason = ""
    try:
        for _, row in csv_rows(text, what):
            if isinstance(row, dict):
                return tuple(row)
            reason = reason or row
    except UserError:
        if whole:
            raise
    if reason and whole:
        raise UserError(f"{what}: none of its rows can be read; the first: {reason}")
    return () if whole else None


class Tables(Reader):
    """A row is a picture: its bytes, its path from the table's folder on, or its URI."""

    pictures = texts = hashed = TABLES

    def usable(self, corpus: Corpus, paths: Sequence[str]) -> Sequence[str]:
        """Those with a column of pictures, or whose first rows name some that are there. Others are
        refused when they are listed, or ignored where something else has pictures."""
        names = {posixpath.basename(f) for f in corpus.files if f.lower().endswith(EXTENSIONS)}
        if len(paths) == 1 and not names:
            return paths
        found = [path for path in paths if _has_pictures(corpus, path, names)]
        if not found and not names:
            return paths
        kept = set(found)
        for path in (path for path in paths if path not in kept):
            corpus.ignored.add("a table without pictures", corpus.relative(path))
            corpus.used.add(path)
        return found

    def list(self, corpus: Corpus, paths: Sequence[str]) -> Iterator[dict[str, Any]]:
        for path in paths:
            yield from _rows(corpus, path)

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

    def documents(self, place: Mapping[str, Any]) -> Iterator[Document]:
        columns = (*TEXT_NAMES, "split", "group")
        found = read_table_rows(filesystem_of(place["root"]), place["path"], columns)
        return (as_document(number, row) for number, row in found)


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


def _rows(corpus: Corpus, path: str) -> Iterator[dict[str, Any]]:
    """Rows of one table by ROW_SCHEMA."""
    root, kind, name = corpus.uri, corpus.kind, corpus.relative(path)
    filesystem, what = filesystem_of(root), f"{kind.option} {path}"
    columns: set[str] | None = None
    embedded, classes = None, []
    if path.lower().endswith(".parquet"):
        try:
            schema = _checked(pq.read_schema(path, filesystem=filesystem), what)
            embedded, classes = embedded_column(schema), class_names(schema)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{path} is not readable Parquet: {error}; replace it") from error
        check_columns(what, schema.names, kind, embedded=embedded is not None)
        columns = {*CAPTION_NAMES, "group", "split", "label", *corpus.more}
        columns |= set() if embedded else set(IMAGE_NAMES)
    checked = columns is not None
    for number, values in read_table_rows(filesystem, path, columns):
        key = f"{name}:{number}"
        if not checked and isinstance(values, dict) and path.lower().endswith(_SEPARATED):
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
