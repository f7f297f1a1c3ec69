"""A batch in parts that are small enough for the device, with the losses of the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from momo.batches import TEXTS, TextLengths
from momo.losses import Negatives

PART = "part"
_WORDS = ("word_row", "word_place", "targets")


@dataclass
class Drawn:
    """What objectives leave of a whole batch for its parts (`Objective.leave`)."""

    negatives: Negatives | None = None


@dataclass(frozen=True)
class Part:
    """Which part of a batch of `rows` and `words` masked words this is.

    `chunk`: of the part in which all rows are compared, how many pairs it embeds at a time.
    """

    rows: int
    words: int
    start: int = 0
    chunk: int = 0
    drawn: Drawn = field(default_factory=Drawn)


def rows_of(batch: Mapping[str, Any], start: int, stop: int) -> dict[str, Any]:
    """Rows of a batch that `on_host` prepared, as a batch; by what the host knows."""
    found: dict[str, Any] = {
        name: value[start:stop]
        for name, value in batch.items()
        if isinstance(value, Tensor) and name not in _WORDS
    }
    if TEXTS in batch:
        texts: TextLengths = batch[TEXTS]
        words = slice(texts.words_before[start], texts.words_before[stop])
        found |= {name: batch[name][words] for name in _WORDS}
        found["word_row"] = found["word_row"] - start
        found[TEXTS] = TextLengths(
            texts.of[start:stop],
            tuple(w - texts.words_before[start] for w in texts.words_before[start : stop + 1]),
        )
    return found


def split(batch: Mapping[str, Any], rows: int, size: int) -> list[dict[str, Any]]:
    """A prepared batch in parts of at most `size` rows."""
    words = batch[TEXTS].words_before[-1] if TEXTS in batch else 0
    return [
        rows_of(batch, start, min(start + size, rows)) | {PART: Part(rows, words, start)}
        for start in range(0, rows, size)
    ]
