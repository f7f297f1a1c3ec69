"""A cheap look at a source before anything runs: what its first rows have, what its listing shows.

Refuses only what preparation would refuse too, or leave nothing of. Of a table it reads the first
256 kB (of Parquet the schema); of several tables it looks at eight.
"""

from __future__ import annotations

import codecs
import posixpath
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from momo_platform.data.columns import check_columns
from momo_platform.data.config import Kind
from momo_platform.data.filesystems import filesystem_of
from momo_platform.data.images import EXTENSIONS
from momo_platform.data.listing import named
from momo_platform.data.readers.tables import TABLES, csv_rows, embedded_column
from momo_platform.data.text import lines, parse_json
from momo_platform.stages.errors import UserError

_BYTES = 2**18
_TABLES_LOOKED_AT = 8


def columns_of(root: str, path: str, what: str) -> tuple[str, ...] | None:
    """Names of a table's columns; () where no row can be read, None where that can't be told from
    the table's beginning. Of JSONL: those of all rows that were looked at. `what` names option and
    file in errors.

    Raises UserError for a table that preparation can't read either.
    """
    filesystem = filesystem_of(root)
    try:
        if path.endswith(".parquet"):
            found = pq.read_metadata(path, filesystem=filesystem)
            return tuple(found.schema.to_arrow_schema().names) if found.num_rows else ()
        with filesystem.open_input_stream(path) as file:
            return _of_jsonl(file) if path.endswith(".jsonl") else _of_csv(file, what)
    except pa.ArrowInvalid as error:
        kind = "Parquet" if path.endswith(".parquet") else "text"
        raise UserError(f"{what} is not readable {kind}: {error}; replace it") from error
    except OSError as error:
        raise UserError(f"{what} can't be read: {error}") from error


def _of_jsonl(file: pa.NativeFile) -> tuple[str, ...] | None:
    names: dict[str, None] = {}
    read = 0
    for line in lines(file):
        row = parse_json(line) if line.strip() else ""
        names |= dict.fromkeys(row if isinstance(row, dict) else ())
        read += len(line)
        if read >= _BYTES:
            return tuple(names) or None
    return tuple(names)


def _of_csv(file: pa.NativeFile, what: str) -> tuple[str, ...] | None:
    raw = file.read(_BYTES)
    whole = not file.read(1)
    try:
        # The end of what was read may be within a character.
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(raw, final=whole)
    except UnicodeDecodeError as error:
        raise UserError(f"{what} is not UTF-8 at byte {error.start}: save it as UTF-8") from error
    for _, row in csv_rows(text, what):
        return tuple(str(name) for name in row)
    return () if whole else None


def _look_at_tables(
    uri: str, tables: Sequence[str], field_name: str, kind: Kind, *, all_needed: bool
) -> None:
    refused: UserError | None = None
    for path in tables[:_TABLES_LOOKED_AT]:
        what = named(field_name, path)
        names = columns_of(uri, path, what)
        if names is None:
            return
        if not names:
            continue
        embedded = path.endswith(".parquet") and embedded_column(
            pq.read_schema(path, filesystem=filesystem_of(uri))
        )
        try:
            check_columns(what, names, kind, embedded=bool(embedded))
        except UserError as error:
            if all_needed and not path.endswith(".jsonl"):
                raise  # preparation refuses the corpus for this one table
            refused = refused or error
            continue
        return
    if len(tables) > _TABLES_LOOKED_AT:
        return
    some = tables[0] if len(tables) == 1 else f"{tables[0]} and {len(tables) - 1} more"
    raise refused or UserError(
        f"{named(field_name, some)}: it has no row that can be read; give one with some"
    )


def look_at_text(uri: str, files: Sequence[pafs.FileInfo], field_name: str, kind: Kind) -> None:
    """Raise UserError, which names option, file and remedy, for a local listing of which nothing
    can be used."""
    tables = [file.path for file in files if file.path.endswith(TABLES)]
    texts = [file for file in files if file.path.endswith(".txt")]
    if any(file.size for file in texts):
        return
    source = named(field_name, uri)
    if tables:
        _look_at_tables(uri, tables, field_name, kind, all_needed=False)
    elif texts:
        raise UserError(f"{source}: no text in it, its .txt files are empty; {kind.hint}")
    else:
        raise UserError(f"{source}: no .txt, .jsonl, .csv, .parquet or .tar in it; {kind.hint}")


def look_at_pictures(uri: str, files: Sequence[pafs.FileInfo], field_name: str, kind: Kind) -> None:
    """The same for pictures, with captions where the kind needs them."""
    paths = [file.path for file in files]
    tables = [path for path in paths if path.endswith(TABLES)]
    if tables:
        _look_at_tables(uri, tables, field_name, kind, all_needed=True)
        return
    source = named(field_name, uri)
    pictures = [path for path in paths if path.lower().endswith(EXTENSIONS)]
    if not pictures:
        raise UserError(f"{source}: no picture and no table in it; {kind.hint}")
    beside = {path for path in paths if path.endswith(".txt")}
    if kind.needs("caption") and not any(
        posixpath.splitext(path)[0] + ".txt" in beside for path in pictures
    ):
        name = posixpath.basename(pictures[0])
        raise UserError(
            f"{source}: {len(pictures)} pictures, and none has its caption beside it: put "
            f"{posixpath.splitext(name)[0]}.txt beside {name} and so on, or give a table with the "
            "columns image and caption"
        )
