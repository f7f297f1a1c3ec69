"""CSV and TSV, strictly: a row that would be read as something else is refused with its line.

CSV is quoted as RFC 4180 says; a first line `sep=;` names another separator, and blanks after
commas do not count. Fields of TSV are as they stand but for those that are quoted as in CSV.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from momo_platform.data.columns import IMAGE_NAMES, PICTURE, DamagedTable, wrong_separator
from momo_platform.stages.errors import UserError

_LONGEST_FIELD = 2**22  # an unclosed quote makes one field of all that follows
_MOST_LINES = 1000  # of a quoted row of TSV
_SWALLOWED = "a quote is opened in it and closed only after what look like rows"
_SEPARATOR = re.compile(r'"?sep=(.)"?\r?\n')


def csv_rows(text: str, path: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """(row number from 2, dictionary or the reason why it can't be read) of a file's text. Raises
    DamagedTable for quotes that do not fit and for two columns of one name."""
    tabs, first = path.lower().endswith(".tsv"), 1
    options: dict[str, Any] = {"delimiter": "\t" if tabs else ",", "strict": True}
    if not tabs and (named := _SEPARATOR.match(text)):
        options["delimiter"], text, first = named[1], text[named.end() :], 2
    if "\n" not in text:
        text = text.replace("\r", "\n")
    head = text.partition("\n")[0]
    options["skipinitialspace"] = not tabs and head.count(",") == head.count(", ") > 0
    names, number = None, 1
    for line, fields in _tab_fields(text) if tabs else _fields(text, options, first, path):
        if not fields:
            continue
        if names is None:
            names = _header(fields, path)
            continue
        number += 1
        swallows = _swallows(fields, names, options)
        if swallows:
            raise _damaged(path, line, _SWALLOWED)
        if swallows is None:
            yield number, f"line {line}: {_SWALLOWED}; correct its quotes"
        elif any(fields[len(names) :]):
            if remedy := wrong_separator(names):
                raise UserError(f"{path}: its header is one column, {names[0]!r}{remedy}")
            yield number, _too_many(line, len(fields), len(names), options["delimiter"])
        else:
            yield number, dict(zip_longest(names, fields[: len(names)]))


def _damaged(path: str, line: int, what: str) -> DamagedTable:
    return DamagedTable(f"{path} is not readable CSV: line {line}: {what}; correct its quotes")


def _fields(
    text: str, options: dict[str, Any], first: int, path: str
) -> Iterator[tuple[int, list[str]]]:
    """(line that it begins in, fields) of each row of CSV; `first` is the text's first line."""
    csv.field_size_limit(_LONGEST_FIELD)
    reader, line = csv.reader(io.StringIO(text), **options), first
    try:
        for fields in reader:
            yield line, fields
            line = reader.line_num + first
    except csv.Error as error:
        what = str(error)
        if what == "unexpected end of data":
            what = "a quote is opened in it and never closed"
        raise _damaged(path, line, what) from error


def _tab_fields(text: str) -> Iterator[tuple[int, list[str]]]:
    """The same of TSV: as it stands, but for rows that are quoted as in CSV."""
    rows, place, width = [line.removesuffix("\r") for line in text.split("\n")], 0, 0
    while place < len(rows):
        taken, fields = 1, rows[place].split("\t") if rows[place] else []
        if width and (quoted := _quoted_row(rows, place, width)):
            taken, fields = quoted
        else:
            fields = [_unquoted(field) for field in fields]
        yield place + 1, fields
        width, place = width or len(fields), place + taken


def _quoted_row(rows: Sequence[str], place: int, width: int) -> tuple[int, list[str]] | None:
    """(lines, fields) of a row of TSV whose quotes, read as in CSV, give as many fields as there
    are columns; None where they are part of the words."""
    if not any(field.startswith('"') for field in rows[place].split("\t")):
        return None
    short, quotes = rows[place].count("\t") < width - 1, 0
    for taken, line in enumerate(rows[place : place + _MOST_LINES], start=1):
        if taken > 1 and not short and line.count("\t") >= width - 1:
            return None  # a row of its own
        quotes += line.count('"')
        if quotes % 2:
            continue
        part = "\n".join(rows[place : place + taken])
        try:
            found = [*csv.reader(io.StringIO(part), delimiter="\t", strict=True)]
        except csv.Error:
            return None
        return (taken, found[0]) if len(found) == 1 and len(found[0]) == width else None
    return None


def _swallows(fields: Sequence[str], names: Sequence[str], options: dict[str, Any]) -> bool | None:
    """Whether lines within a row's fields are rows by their looks: as many fields, and a picture's
    name where one belongs. None: perhaps, since it reads like prose: blanks follow its commas."""
    if not any("\n" in field for field in fields):
        return False
    mark, doubt = options["delimiter"], False
    columns = [i for i, name in enumerate(names) if name in IMAGE_NAMES] or [0]
    for place, field in enumerate(fields):
        lines = field.split("\n")
        for number, line in enumerate(lines if len(lines) > 1 else ()):
            parts = line.split(mark)
            before = fields[:place] if number == 0 else []
            after = fields[place + 1 :] if number == len(lines) - 1 else []
            own = range(len(before) + (number == 0), len(before) + len(parts))
            if not len(before) + len(parts) + len(after) == len(names) > 1:
                continue
            if any(i in own and PICTURE.search(parts[i - len(before)]) for i in columns):
                prose = any(part.startswith(" ") for part in parts[1:])
                if options["skipinitialspace"] or not prose:
                    return True
                doubt = True
    return None if doubt else False


def _too_many(line: int, fields: int, columns: int, delimiter: str) -> str:
    name = {",": "comma", ";": "semicolon", "\t": "tab"}.get(delimiter, delimiter)
    return (
        f"more fields than columns: {fields} instead of {columns} in line {line}; quote a field "
        f"that has a {name}"
    )


def _header(fields: Sequence[str], path: str) -> list[str]:
    names = [name.strip() for name in fields]
    check_names(names, path)
    return names


def check_names(names: Sequence[str], what: str) -> None:
    """Raise DamagedTable for two columns of one name."""
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if twice:
        raise DamagedTable(f"{what}: two columns are called {twice[0]!r}; rename one of them")


def _unquoted(field: str) -> str:
    inner = field[1:-1].replace('""', "")
    quoted = len(field) > 1 and field[0] == field[-1] == '"' and '"' not in inner
    return field[1:-1].replace('""', '"') if quoted else field
