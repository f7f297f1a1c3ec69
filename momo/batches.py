"""What is done to a batch on the host, before it goes to the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from momo.masking import PAD, mask_tokens, trim_padding

TEXTS = "texts"
ROWS_OF_RANKS = "rows_of_ranks"
"""A fact that a batch may bring: the rows that each rank has of it, where they are not as many as
in training; one number only: every rank has all of them."""


@dataclass(frozen=True)
class TextLengths:
    """How many tokens each text of a batch has, and how many words are masked before each text
    and in all [B + 1]: known on the host."""

    of: tuple[int, ...]
    words_before: tuple[int, ...] = ()

    def rows(self, start: int, stop: int | None = None, step: int = 1) -> tuple[int, ...]:
        """Of some rows."""
        return self.of[start:stop:step]


def with_masked_words(
    batch: Mapping[str, Any], noise: str, *, vocab_size: int, ratio: float
) -> dict[str, Any]:
    """A batch of texts or pairs as `MoMoTask` works on it, from one as loaders make it.

    `ids` are cut to the longest text and `noise` [B, T, 3], of that name, is used up: `masked_ids`
    [B, T];
    `word_row`, `word_place` int64 [M], the text and place of each masked word, and `targets` [M],
    the words; `lengths` int64 [B], on the host `texts`, `TextLengths`. Texts begin at the left and
    have a token at least. On the CPU: how many words are masked is looked at.
    """
    length = trim_padding(batch["ids"])
    ids, drawn = batch["ids"][:, :length], batch[noise][:, :length]
    present = ids != PAD
    lengths: Tensor = present.sum(dim=1).clamp_min(1)
    words = mask_tokens(ids, present, drawn, vocab_size=vocab_size, ratio=ratio)
    row, place = words.selected.nonzero(as_tuple=True)
    words_before = (0, *words.selected.sum(dim=1).cumsum(0).tolist())
    kept = {k: v for k, v in batch.items() if k != noise}
    return kept | {
        "ids": ids,
        "masked_ids": words.ids,
        "word_row": row,
        "word_place": place,
        "targets": ids[row, place],
        "lengths": lengths,
        TEXTS: TextLengths(tuple(lengths.tolist()), words_before),
    }
