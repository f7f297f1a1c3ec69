"""What a stage of quality is told: plain values. A plan loads nothing for it."""

from __future__ import annotations

from dataclasses import dataclass

from momo_platform.bounds import check_bounds
from momo_platform.data.config import MAX_BITS, NEAR_BITS


@dataclass(frozen=True)
class QualityConfig:
    """Which training rows of a prepared corpus are kept; held-out ones always are.

    `text`: the column with texts or captions. Of it only `languages` (ISO 639-1; empty: all), and
    of texts of at least the similarity `near_duplicates` (Jaccard, of runs of five words; 0: not
    searched) the first. Of what is then left the share `keep` with the best scores. Pictures go
    that differ from a tested one in at most `near_duplicate_bits`.
    """

    text: str = ""
    languages: tuple[str, ...] = ()
    near_duplicates: float = 0.0
    keep: float = 1.0
    near_duplicate_bits: int = NEAR_BITS

    def __post_init__(self) -> None:
        check_bounds(self, near_duplicate_bits=(0, MAX_BITS))
