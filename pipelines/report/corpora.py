"""The cards of the prepared corpora, as the page shows them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from momo_platform.charts import bar_chart
from momo_platform.data.card import CARD
from momo_platform.data.card_page import HISTOGRAM_NAMES, STEP_NAMES, bar_label


@dataclass(frozen=True)
class Sample:
    """A row: a data URI of its picture (none for text), and its captions or the text."""

    picture: str | None
    source: str
    split: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Corpus:
    """One modality's card: `document` is `card.json`, `charts` are (title, range, SVG)."""

    kind: str
    document: Mapping[str, Any]
    charts: tuple[tuple[str, str, str], ...]
    samples: tuple[Sample, ...]

    @property
    def steps(self) -> list[tuple[str, int, int]]:
        """(what a step is called, rows that it removed, rows left)."""
        steps = self.document["steps"]
        return [(STEP_NAMES[s["step"]], s["removed"], s["rows"]) for s in steps]

    @property
    def tallies(self) -> list[tuple[str, Mapping[str, int]]]:
        """(name, rows by step) of each source, then of each split."""
        splits = [(f"split {n}", t) for n, t in self.document["by_split"].items()]
        return [*self.document["by_source"].items(), *splits]


def _chart(name: str, histogram: Mapping[str, Any]) -> tuple[str, str, str]:
    title = HISTOGRAM_NAMES.get(name, name)
    bars = [(bar_label(bar), bar["count"]) for bar in histogram["bars"]]
    span = f"{histogram['least']:,} to {histogram['most']:,}, mean {histogram['mean']:,}"
    return title, span, bar_chart(bars, title)


def _sample(folder: Path, entry: Mapping[str, Any]) -> Sample:
    picture = None
    if "picture" in entry:
        raw = (folder / entry["picture"]).read_bytes()
        picture = "data:image/png;base64," + base64.b64encode(raw).decode()
    return Sample(picture, entry["source"], entry["split"], tuple(entry["texts"]))


def read_corpus(folder: Path) -> Corpus:
    """The card in a `prepare-*` artifact's folder, ready to be shown."""
    document = json.loads((folder / CARD).read_text(encoding="utf-8"))
    charts = tuple(_chart(*item) for item in document["histograms"].items())
    samples = tuple(_sample(folder, entry) for entry in document["samples"])
    return Corpus(document["kind"], document, charts, samples)
