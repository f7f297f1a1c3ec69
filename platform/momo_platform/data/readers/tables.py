"""Tables: JSONL, CSV, TSV and Parquet, with pictures in them, beside them or by URI."""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from momo_platform.data.columns import CAPTION_NAMES, IMAGE_NAMES, TEXT_NAMES, check_columns
from momo_platform.data.filesystems import filesystem_of
from momo_platform.data.images import BadImage
from momo_platform.data.listing import RowRef, file_ref, make_row
from momo_platform.data.readers.base import Corpus, Document, Reader, Stored, as_document
from momo_platform.data.text import lines, parse_json
from momo_platform.stages.errors import UserError

TABLES = (".parquet", ".jsonl", ".csv", ".tsv")
_LONGEST_FIELD = 2**22  # of CSV: an unclosed quote makes one field of all that follows


def is_binary(kind: pa.DataType) -> bool:
    """Whether a column holds pictures' bytes, bare or in the layout of Hugging Face `datasets`."""
    if pa.types.is_struct(kind):
        return any(f.name == "bytes" and is_binary(f.type) for f in kind.fields)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def embedded_column(schema: pa.Schema) -> str | None:
    """The column of a Parquet file that holds pictures' bytes, or None."""
    columns = (n for n in IMAGE_NAMES if n in schema.names and is_binary(schema.field(n).type))
    return next(columns, None)


def read_embedded(root: str, path: str, rows: Iterable[int]) -> dict[int, bytes | str | None]:
    """Row → its picture's bytes (or path, or None) out of a Parquet file.

    Reads only the row groups that hold them, 64 rows at a time.
    """
    wanted, found = set(rows), {}
    with filesystem_of(root).open_input_file(path) as opened, pq.ParquetFile(opened) as file:
        column = embedded_column(file.schema_arrow)
        start = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            here, first, start = wanted & set(range(start, start + count)), start, start + count
            if not here:
                continue
            for batch in file.iter_batches(64, row_groups=[group], columns=[column]):
                for place in here & set(range(first, first + len(batch))):
                    value = batch.column(0)[place - first].as_py()
                    if isinstance(value, dict):
                        value = value.get("bytes") or value.get("path")
                    found[place] = value
                first += len(batch)
    return found


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
    if path.endswith(".parquet"):
        number = 0
        try:
            with filesystem.open_input_file(path) as opened, pq.ParquetFile(opened) as file:
                names = set(file.schema_arrow.names)
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
        if path.endswith(".jsonl"):
            for number, line in enumerate(lines(file), start=1):
                if line.strip():
                    yield number, parse_json(line)
            return
        raw = file.read()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 at byte {error.start}: save it as UTF-8") from error
    yield from csv_rows(text, path)


def csv_rows(text: str, path: str) -> Iterator[tuple[int, dict[Any, Any]]]:
    """(row number from 2, dictionary) of a CSV or TSV file's text."""
    delimiter = "\t" if path.endswith(".tsv") else ","
    csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield from enumerate(csv.DictReader(io.StringIO(text), delimiter=delimiter), start=2)
    except csv.Error as error:
        raise UserError(f"{path} is not readable CSV: {error}; correct its quotes") from error


class Tables(Reader):
    """A row is a picture: its bytes, its path from the table's folder on, or its URI."""

    pictures = texts = hashed = TABLES

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


def _rows(corpus: Corpus, path: str) -> Iterator[dict[str, Any]]:
    """Rows of one table by ROW_SCHEMA."""
    root, kind, name = corpus.uri, corpus.kind, posixpath.basename(path)
    filesystem, what = filesystem_of(root), f"{kind.option} {path}"
    columns: set[str] | None = None
    embedded = None
    if path.endswith(".parquet"):
        try:
            schema = pq.read_schema(path, filesystem=filesystem)
            embedded = embedded_column(schema)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{path} is not readable Parquet: {error}; replace it") from error
        check_columns(what, schema.names, kind, embedded=embedded is not None)
        columns = {*CAPTION_NAMES, "group", "split", "label", *corpus.more}
        columns |= set() if embedded else set(IMAGE_NAMES)
    checked = columns is not None
    for number, values in read_table_rows(filesystem, path, columns):
        key = f"{name}:{number}"
        if not checked and isinstance(values, dict) and path.endswith((".csv", ".tsv")):
            check_columns(what, values, kind)
            checked = True
        if isinstance(values, str):
            yield make_row(corpus.name, key, {}, root) | {"reason": values}
            continue
        picture = None
        if embedded:
            # Zeros keep the file's order when rows are sorted: row groups are read in turn.
            key, picture = f"{name}:{number:09d}", RowRef(root, path, number - 1)
        row = make_row(corpus.name, key, values, root, posixpath.dirname(path), picture)
        if corpus.more:
            row["more"] = {name: values.get(name) for name in corpus.more}
        yield row
