"""What the passes of a selection leave for each other, a file for each file of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from momo_platform.data.parts import read_table, write_table
from momo_platform.data.quality.config import QualityConfig
from momo_platform.data.quality.filters import RowFilter
from momo_platform.stages.storage.place import Place

FORMAT = "format-1"
"""Parts of another are not gone on with."""
NEAR_TEXT, SCORE = "near_text", "score"
LOOK, NEAR, SCORES = "look", "near", "scores"
"""The folders of the passes' parts."""


@dataclass(frozen=True)
class Selection:
    """What each task is given. `samples`: source and key of the rows that the card shows. `least`:
    the lowest score that is kept, in steps; None: all are."""

    config: QualityConfig
    rows: Place
    columns: tuple[str, ...]
    row_group: int
    output: Place
    parts: Place
    filters: tuple[RowFilter, ...] = ()
    samples: frozenset[tuple[str, str]] = field(default=frozenset())
    least: int | None = None


@dataclass
class Gone:
    """Rows that go: their numbers in a file, the card's step and the reason."""

    rows: list[int] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def add(self, rows: Sequence[int] | np.ndarray, step: str, reasons: Sequence[str]) -> None:
        self.rows += map(int, rows)
        self.steps += [step] * len(rows)
        self.reasons += reasons

    def write(self, parts: Place, name: str) -> None:
        schema = pa.schema([("row", pa.int64()), ("step", pa.string()), ("reason", pa.string())])
        columns = {"row": self.rows, "step": self.steps, "reason": self.reasons}
        write_table(parts, f"{name}.gone.arrow", pa.table(columns, schema=schema))

    @staticmethod
    def read(parts: Place, name: str) -> Gone:
        """Without a file none."""
        try:
            table = read_table(parts, f"{name}.gone.arrow")
        except FileNotFoundError:
            return Gone()
        return Gone(*(table[column].to_pylist() for column in ("row", "step", "reason")))

    def join(self, other: Gone) -> None:
        """Take the rows of another, too."""
        self.add(other.rows, "", other.reasons)
        self.steps[len(self.steps) - len(other.steps) :] = other.steps


def part_of(folder: str, number: int) -> str:
    """Of the file of rows with this number."""
    return f"{folder}/{number:08d}"
