"""Rows and columns of tables, JSONL, CSV, TSV and Parquet, as they are read; damage is named."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from momo_platform.data.columns import DamagedTable
from momo_platform.data.csv_text import check_names, csv_rows
from momo_platform.data.encodings import to_utf8
from momo_platform.data.filesystems import filesystem_of
from momo_platform.data.text import lines, parse_json
from momo_platform.stages.errors import UserError

LINES = (".jsonl", ".ndjson")
SEPARATED = (".csv", ".tsv")
TABLES = (".parquet", *LINES, *SEPARATED)
_LOOKED_AT = 2**18
_BUFFER = 2**23  # of a column, read at a time
_HEADER = 2**14
_BETWEEN = re.compile(r'[\s,;|"]+')


def open_parquet(opened: pa.NativeFile) -> pq.ParquetFile:
    """Read in parts: `pre_buffer` would read the whole of a row group's columns first."""
    return pq.ParquetFile(opened, buffer_size=_BUFFER, pre_buffer=False)


def why_unreadable(error: Exception, filesystem: pafs.FileSystem, what: str) -> UserError:
    """DamagedTable for damage and for what this user may not read, but not where a storage does not
    answer: then no row is to be left out."""
    told = str(error)
    damage = isinstance(error, pa.ArrowInvalid) or "thrift" in told or "arquet" in told
    own = isinstance(error, OSError) and error.errno is None
    local = own and isinstance(filesystem, pafs.LocalFileSystem)
    if damage or local:
        kind = "Parquet" if ".parquet" in what.lower() else "text"
        return DamagedTable(f"{what} is not readable {kind}: {error}; replace it")
    kind_of_error = DamagedTable if isinstance(error, PermissionError) else UserError
    return kind_of_error(f"{what} can't be read: {error}")


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
            with filesystem.open_input_file(path) as opened, open_parquet(opened) as file:
                names = set(checked_names(file.schema_arrow, path).names)
                chosen = None if columns is None else sorted(names & set(columns))
                if chosen == []:
                    yield from ((n, {}) for n in range(1, file.metadata.num_rows + 1))
                    return
                for batch in file.iter_batches(1024, columns=chosen):
                    for row in batch_rows(batch):
                        number += 1
                        yield number, row
        except (pa.ArrowInvalid, OSError) as error:
            raise why_unreadable(error, filesystem, path) from error
        return
    try:
        opened = filesystem.open_input_stream(path)
    except PermissionError as error:
        raise why_unreadable(error, filesystem, path) from error
    with opened as file:
        if path.lower().endswith(LINES):
            for number, line in enumerate(lines(file), start=1):
                if line.strip():
                    yield number, parse_json(line)
            return
        raw = file.read()
    try:
        text = to_utf8(raw).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DamagedTable(
            f"{path} is not UTF-8 at byte {error.start}: save it as UTF-8"
        ) from error
    yield from csv_rows(text, path)


def columns_of(root: str, path: str, what: str) -> tuple[str, ...] | None:
    """Names of a table's columns; () where no row can be read, None where that can't be told from
    the table's beginning. Of JSONL: those of all rows that were looked at. `what` names option and
    file in errors.

    Raises DamagedTable for one that can't be read.
    """
    filesystem = filesystem_of(root)
    try:
        if path.lower().endswith(".parquet"):
            found = pq.read_metadata(path, filesystem=filesystem)
            names = tuple(checked_names(found.schema.to_arrow_schema(), what).names)
            return names if found.num_rows else ()
        with filesystem.open_input_stream(path) as file:
            of = _of_jsonl if path.lower().endswith(LINES) else _of_csv
            return of(file, what)
    except (pa.ArrowInvalid, OSError) as error:
        raise why_unreadable(error, filesystem, what) from error


def checked_names(schema: pa.Schema, what: str) -> pa.Schema:
    check_names(schema.names, what)
    return schema


def _of_jsonl(file: pa.NativeFile, what: str) -> tuple[str, ...] | None:
    names: dict[str, None] = {}
    read, reason = 0, ""
    for line in lines(file):
        row = parse_json(line) if line.strip() else ""
        if not names and row and isinstance(row, str):
            reason = reason or row
        names |= dict.fromkeys(row if isinstance(row, dict) else ())
        read += len(line)
        if read >= _LOOKED_AT:
            return tuple(names) or None
    if reason and not names:
        raise DamagedTable(f"{what}: it has no row that can be read; the first: {reason}")
    return tuple(names)


def _of_csv(file: pa.NativeFile, what: str) -> tuple[str, ...] | None:
    raw = file.read(_LOOKED_AT)
    whole = not file.read(1)
    try:
        # The end of what was read may be within a character.
        text = codecs.getincrementaldecoder("utf-8")().decode(
            to_utf8(raw, whole=whole), final=whole
        )
    except UnicodeDecodeError as error:
        raise DamagedTable(
            f"{what} is not UTF-8 at byte {error.start}: save it as UTF-8"
        ) from error
    reason = ""
    try:
        for _, row in csv_rows(text, what):
            if isinstance(row, dict):
                return tuple(row)
            reason = reason or row
    except DamagedTable:
        if whole:
            raise
    if reason and whole:
        raise DamagedTable(f"{what}: none of its rows can be read; the first: {reason}")
    return () if whole else None


def header_words(root: str, path: str) -> set[str]:
    """The words of a CSV's first line, also where the rest is damaged; of other tables none."""
    if not path.lower().endswith(SEPARATED):
        return set()
    try:
        opened = filesystem_of(root).open_input_stream(path)
    except PermissionError:
        return set()
    with opened as file:
        text = to_utf8(file.read(_HEADER), whole=False).decode("utf-8", "replace")
    return set(_BETWEEN.split(next((line for line in text.splitlines() if line.strip()), "")))
