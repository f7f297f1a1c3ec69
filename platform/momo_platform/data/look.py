"""A cheap look at a source before anything runs: what its first rows have, what its listing shows.

Refuses only what preparation would refuse too, or leave nothing of. Of a table it reads the first
256 kB (of Parquet the schema); of several tables it looks at eight.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence

import pyarrow.fs as pafs
import pyarrow.parquet as pq

from momo_platform.data.columns import (
    CAPTION_NAMES,
    IMAGE_NAMES,
    PICTURE,
    DamagedTable,
    check_columns,
)
from momo_platform.data.config import Kind
from momo_platform.data.filesystems import endings, filesystem_of
from momo_platform.data.images import EXTENSIONS
from momo_platform.data.listing import named
from momo_platform.data.readers.base import Corpus
from momo_platform.data.readers.files import TEXT
from momo_platform.data.readers.table_rows import LINES, TABLES, columns_of
from momo_platform.data.readers.tables import READER, embedded_column
from momo_platform.stages.errors import UserError

_TABLES_LOOKED_AT = 8
_LINE = 2**14


def _look_at_tables(
    uri: str, tables: Sequence[str], field_name: str, kind: Kind, *, all_needed: bool, more: bool
) -> None:
    """`more`: there are others, which may be better."""
    refused: UserError | None = None
    for path in tables:
        what = named(field_name, path)
        try:
            names = columns_of(uri, path, what)
        except DamagedTable as error:
            refused = refused or error
            continue
        if names is None:
            return
        if not names:
            continue
        embedded = path.lower().endswith(".parquet") and embedded_column(
            pq.read_schema(path, filesystem=filesystem_of(uri))
        )
        try:
            check_columns(what, names, kind, embedded=bool(embedded))
        except UserError as error:
            certain = not more or embedded or set(names) & set(IMAGE_NAMES)
            if all_needed and certain and not path.lower().endswith(LINES):
                raise  # preparation refuses the corpus for this one table
            refused = refused or error
            continue
        return
    if more:
        return
    some = tables[0] if len(tables) == 1 else f"{tables[0]} and {len(tables) - 1} more"
    raise refused or UserError(
        f"{named(field_name, some)}: it has no row that can be read; give one with some"
    )


def look_at_text(uri: str, files: Sequence[pafs.FileInfo], field_name: str, kind: Kind) -> None:
    """Raise UserError, which names option, file and remedy, for a local listing of which nothing
    can be used."""
    tables = [file.path for file in files if file.path.lower().endswith(TABLES)]
    texts = [file for file in files if file.path.lower().endswith(TEXT)]
    if any(file.size for file in texts):
        return
    source = named(field_name, uri)
    if tables:
        first, more = tables[:_TABLES_LOOKED_AT], len(tables) > _TABLES_LOOKED_AT
        _look_at_tables(uri, first, field_name, kind, all_needed=False, more=more)
    elif texts:
        raise UserError(f"{source}: no text in it, its .txt files are empty; {kind.hint}")
    else:
        there = endings([file.path for file in files])
        raise UserError(
            f"{source}: no .txt, .jsonl, .csv, .parquet or .tar in it{there}; {kind.hint}"
        )


def look_at_pictures(uri: str, files: Sequence[pafs.FileInfo], field_name: str, kind: Kind) -> None:
    """The same for pictures, with captions where the kind needs them."""
    paths = [file.path for file in files]
    tables = [path for path in paths if path.lower().endswith(TABLES)]
    more = len(tables) > _TABLES_LOOKED_AT
    try:
        usable = READER.usable(Corpus("", uri, kind, paths), tables[:_TABLES_LOOKED_AT])
    except DamagedTable:
        if more:
            return
        raise
    if usable or more:
        _look_at_tables(uri, usable, field_name, kind, all_needed=True, more=more)
        return
    source = named(field_name, uri)
    pictures = [path for path in paths if path.lower().endswith(EXTENSIONS)]
    if not pictures:
        raise UserError(f"{source}: no picture and no table in it{endings(paths)}; {kind.hint}")
    beside = {posixpath.splitext(path)[0] for path in paths if path.lower().endswith(TEXT)}
    if kind.needs("caption") and not any(posixpath.splitext(p)[0] in beside for p in pictures):
        name = posixpath.basename(pictures[0])
        raise UserError(
            f"{source}: {len(pictures)} pictures, and none has its caption beside it: put "
            f"{posixpath.splitext(name)[0]}.txt beside {name} and so on, or give a table with the "
            f"columns image and caption{_other_tables(uri, paths)}"
        )


def _other_tables(uri: str, paths: Sequence[str]) -> str:
    """What to do with files that seem to be tables but are not called so, in brackets; "" for none
    of them."""
    for path in [p for p in paths if p.lower().endswith(TEXT)][:_TABLES_LOOKED_AT]:
        with filesystem_of(uri).open_input_stream(path) as file:
            line = file.read(_LINE).decode("utf-8", "replace").partition("\n")[0].strip()
        fields = re.split(r"\s*[,;\t|]\s*", line)
        named = {*fields} & {*IMAGE_NAMES} and {*fields} & {*CAPTION_NAMES}
        if len(fields) > 1 and (named or PICTURE.search(fields[0].partition("#")[0])):
            stem, mark = posixpath.basename(path)[: -len(TEXT)], "tsv" if "\t" in line else "csv"
            head = "" if named else ", give it a first line image,caption"
            return (
                f" ({stem}{TEXT} looks like one: call it {stem}.{mark}{head}, and put it into the "
                "folder from which it names the pictures)"
            )
    if any(path.lower().endswith(".json") for path in paths):
        return " (of .json only .jsonl is read, a row on each line)"
    return ""
