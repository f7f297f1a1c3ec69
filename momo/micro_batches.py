"""A batch in parts that are small enough for the device, with the losses of the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from momo.batches import TEXTS, TextLengths
from momo.losses import Loss, Negatives

PART = "part"
_WORDS = ("word_row", "word_place", "targets")


@dataclass
class Drawn:
    """What the part of a batch that compares all its pairs leaves for the parts that join some."""

    negatives: Negatives | None = None


@dataclass(frozen=True)
class Part:
    """Which part of a batch of `rows` and `words` masked words this is.

    `chunk`: of the part that compares all pairs, how many it embeds at a time.
    """

    rows: int
    words: int
    start: int = 0
    chunk: int = 0
    drawn: Drawn = field(default_factory=Drawn)

    def of_whole(self, name: str, loss: Loss, rows: int) -> Loss:
        """The part's loss with the count of the whole batch, of which it has `rows`; its metrics
        weigh as much as it counts, so that those of all parts add up."""
        if name == "matching" and self.drawn.negatives is not None:
            whole = self.drawn.negatives.valid.sum() + self.rows
        elif name in ("mlm", "pair_mlm"):
            whole = loss.count.new_full((), self.words)
        else:  # as many of each row
            whole = loss.count * (self.rows / rows)
        share = loss.count / whole.clamp_min(1.0)
        return Loss(loss.sum, whole, {k: v * share for k, v in loss.metrics.items()})


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
    """A prepared batch of pictures or texts in parts of at most `size` rows."""
    words = batch[TEXTS].words_before[-1] if TEXTS in batch else 0
    return [
        rows_of(batch, start, min(start + size, rows)) | {PART: Part(rows, words, start)}
        for start in range(0, rows, size)
    ]
