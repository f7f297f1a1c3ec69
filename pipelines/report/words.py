"""Names of records in words that a reader of the page knows."""

from __future__ import annotations

import re
from collections.abc import Mapping

from momo.objectives import OBJECTIVES
from pipelines.modalities import MODALITIES

OBJECTIVE_TITLES: Mapping[str, str] = {
    name: one.title for name, one in OBJECTIVES.items() if one.title
}
_LOSSES: Mapping[str, str] = {
    **OBJECTIVE_TITLES,
    "total": "all objectives, weighted sum",
}
_DIRECTIONS: Mapping[str, str] = {
    "image_to_text": "picture to caption",
    "text_to_image": "caption to picture",
}
_MEASURES: Mapping[str, str] = {"mrr": "mean reciprocal rank", "median_rank": "median rank"}


def loss_in_words(name: str) -> str:
    """'mim' → 'masked patches (MIM)'; a name that is not known stays as it is."""
    return _LOSSES.get(name, name.replace("_", " "))


def metric_in_words(name: str) -> str:
    """'image_to_text_r@10' → 'picture to caption, R@10'; others without their underscores."""
    rest = name.rpartition("/")[2]
    for direction, words in _DIRECTIONS.items():
        if rest.startswith(direction):
            rest = rest.removeprefix(direction).lstrip("_")
            rest = _MEASURES.get(rest, re.sub(r"^r@?(\d+)$", r"R@\1", rest))
            return f"{words}, {rest}".rstrip(", ").replace("_", " ")
    return _MEASURES.get(rest, name.replace("/", ", ").replace("_", " "))


def corpus_in_words(corpus: str) -> str:
    """'pair' → 'captioned pictures'."""
    known = MODALITIES.get(corpus)
    return corpus if known is None else known.words
