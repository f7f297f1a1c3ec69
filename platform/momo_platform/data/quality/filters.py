"""Filters that look at a row alone: its language, and whether its picture is one of a test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from momo_platform.data.near import LookIndex
from momo_platform.stages.errors import UserError
from momo_platform.stages.storage.place import Place

LANGUAGE, TESTED = "language", "tested"
LOOKS = "looks.parquet"
"""What pictures are tested on: the columns `data` (the set's name), `key` and `look`."""
LEAST_CERTAIN = 0.5
"""A text is of another language when py3langid gives that one at least this probability."""


class RowFilter(Protocol):
    """`step`: what the card calls the rows that go. Pickled into tasks: what takes memory is loaded
    where it is used."""

    @property
    def step(self) -> str: ...

    @property
    def columns(self) -> Sequence[str]:
        """Those that it reads."""
        ...

    def reasons(self, table: pa.Table) -> list[str]:
        """Of each row why it goes; "" where it stays. What stands behind a colon is of the row
        alone: it is told of examples and not counted."""
        ...


def texts_of(column: pa.ChunkedArray) -> list[str]:
    """Documents as they are, the captions of a row as one text."""
    return [t if isinstance(t, str) else ". ".join(t or ()) for t in column.to_pylist()]


@dataclass(frozen=True)
class OfLanguages:
    """Keeps texts in `languages` (ISO 639-1), by py3langid, and those whose language it can't tell:
    a caption of two words is of many."""

    column: str
    languages: tuple[str, ...]
    step: str = LANGUAGE

    @property
    def columns(self) -> Sequence[str]:
        return (self.column,)

    def reasons(self, table: pa.Table) -> list[str]:
        return [self._reason(text) for text in texts_of(table[self.column])]

    def _reason(self, text: str) -> str:
        language, probability = _identifier().classify(text)
        if language in self.languages or probability < LEAST_CERTAIN:
            return ""
        return f"language {language}"


def check_languages(languages: Sequence[str]) -> None:
    """Raise UserError for one that is not known, and where the package is not there."""
    known = sorted(_identifier().labels) if languages else ()
    for language in languages:
        if language not in known:
            raise UserError(f"--quality.languages {language}: give any of {', '.join(known)}")


@lru_cache(maxsize=1)
def _identifier() -> Any:
    """Of all its languages, with probabilities. Raises UserError where the package is not there."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise UserError(
            "--quality.languages: the package py3langid is not there: pip install py3langid"
        ) from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@dataclass(frozen=True)
class NotTested:
    """Drops pictures that look like one that models are tested on: `looks` has LOOKS. They differ
    in at most `bits` of 64, as near duplicates do (near.py)."""

    looks: Place
    bits: int
    step: str = TESTED

    @property
    def columns(self) -> Sequence[str]:
        return ("look",)

    def reasons(self, table: pa.Table) -> list[str]:
        names, index = _tested(self.looks, self.bits)
        found = index.find_many(table["look"].to_pylist())[0]
        return ["" if n < 0 else f"like {names[n]}" for n in found.tolist()]


@lru_cache(maxsize=1)
def _tested(place: Place, bits: int) -> tuple[list[str], LookIndex]:
    """Names and looks of the pictures that are tested on."""
    with place.open(LOOKS) as file:
        table = pq.read_table(file)
    names = [f"{data}: {key}" for data, key in zip(*_lists(table, "data", "key"), strict=True)]
    return names, LookIndex(table["look"].to_pylist(), bits)


def _lists(table: pa.Table, *names: str) -> list[list[Any]]:
    return [table[name].to_pylist() for name in names]


def write_looks(path: Any, found: Mapping[str, Sequence[tuple[str, bytes]]]) -> None:
    """LOOKS of (key, look) by data set."""
    rows = [{"data": d, "key": k, "look": look} for d, some in found.items() for k, look in some]
    schema = pa.schema([("data", pa.string()), ("key", pa.string()), ("look", pa.binary())])
    pq.write_table(pa.Table.from_pylist(rows, schema), path, compression="zstd")
