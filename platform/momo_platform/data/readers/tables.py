"""Tables and bytes wherever they lie: JSONL, CSV, TSV and Parquet, locally or by URI."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from momo_platform.data.columns import IMAGE_NAMES
from momo_platform.stages.errors import UserError

TABLES = (".parquet", ".jsonl", ".csv", ".tsv")
LONGEST_LINE = 2**26
_LONGEST_FIELD = 2**22  # of CSV: an unclosed quote makes one field of all that follows


def open_uri(uri: str) -> tuple[pafs.FileSystem, str]:
    """The file system and path of a local path or URI."""
    if "://" in uri:
        return pafs.FileSystem.from_uri(uri)
    return pafs.LocalFileSystem(), str(Path(uri).expanduser().absolute())


@lru_cache(maxsize=64)
def filesystem_of(root: str) -> pafs.FileSystem:
    """The file system of a path or URI, connected once a process."""
    return open_uri(root)[0]


def read_picture(root: str, path: str | None, at_most: int | None = None) -> bytes:
    """The bytes of a picture file; with no path, `root` is the picture's own URI.

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


def _cut(raw: bytes) -> list[bytes]:
    return raw.splitlines() if len(raw) <= LONGEST_LINE else [raw]


def lines(stream: pa.NativeFile) -> Iterator[bytes]:
    """A stream's lines as `bytes.splitlines` cuts them; holds one line and 1 MB.

    Of a line longer than LONGEST_LINE one byte more than that comes, so that it is refused.
    """
    rest = bytearray()
    while chunk := stream.read(2**20):
        head, newline, tail = chunk.partition(b"\n")
        rest += head[: max(0, LONGEST_LINE + 1 - len(rest))]
        if not newline:
            continue
        yield from _cut(bytes(rest + newline))
        whole, newline, last = tail.rpartition(b"\n")
        yield from (whole + newline).splitlines()
        rest = bytearray(last)
    yield from _cut(bytes(rest))


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


def parse_json(line: bytes) -> Any:
    """A line's JSON object, or the reason text why it is none."""
    if len(line) > LONGEST_LINE:
        return f"the line is longer than {LONGEST_LINE >> 20} MB"
    try:
        row = json.loads(line.decode("utf-8"))
        if not isinstance(row, dict):
            return "the line is no JSON object"
        if b"\\ud" in line.lower():  # half a surrogate pair has no UTF-8
            json.dumps(row, ensure_ascii=False).encode()
        return row
    except UnicodeError:
        return "the line is not UTF-8"
    except (ValueError, RecursionError) as error:  # ValueError: also digits without end
        return f"the line is no JSON: {error}"


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
