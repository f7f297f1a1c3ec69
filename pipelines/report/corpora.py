"""The corpora as the page shows them: where they lie, and which of their rows were trained on."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from momo_platform.charts import bar_chart
from momo_platform.data.artifacts import CARD
from momo_platform.data.card_page import HISTOGRAM_NAMES, STEP_NAMES, bar_label
from momo_platform.stages import Artifact
from pipelines.bundled import bundle_at
from pipelines.report.words import corpus_in_words

_HELD_OUT = {"valid": "held out for choices", "test": "held out for tests"}


@dataclass(frozen=True)
class CardSample:
    """A row: a data URI of its picture (none for text), and its captions or the text."""

    picture: str | None
    source: str
    split: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class SourceRow:
    """One source's rows: `removed` by reason, those that are `kept`, and those that training reads,
    `weight` times in an epoch each (both None: nothing was trained on this modality)."""

    name: str
    place: str
    licence: str
    read: int
    removed: Mapping[str, int]
    kept: int
    trained: int | None
    weight: float | None


@dataclass(frozen=True)
class CorpusCard:
    """One modality: `document` is `card.json`, `charts` are (title, range, SVG), `places` says
    where each source lies, `mixed` is what its `mix-*` stage returned (None: no such stage)."""

    kind: str
    document: Mapping[str, Any]
    charts: tuple[tuple[str, str, str], ...] = ()
    samples: tuple[CardSample, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    mixed: Mapping[str, Any] | None = None

    @property
    def title(self) -> str:
        return corpus_in_words(self.kind)

    @property
    def trained(self) -> int | None:
        """Rows that training reads."""
        if self.mixed is None:
            return None
        return sum(int(s["available"]) for s in self.mixed["sources"].values())

    @property
    def flow(self) -> list[tuple[str, int, bool]]:
        """(what, rows, whether they are left out), from what was read to what is trained on."""
        steps = self.document["steps"]
        found = [("read", int(steps[0]["rows"]), False)]
        found += [(STEP_NAMES[s["step"]], s["removed"], True) for s in steps if s["removed"]]
        kept = int(steps[-1]["rows"])
        found.append(("kept", kept, False))
        splits = {n: int(t["kept"]) for n, t in self.document["by_split"].items()}
        found += [
            (_HELD_OUT.get(n, f"of split {n}"), count, True)
            for n, count in splits.items()
            if n != "train" and count
        ]
        left = splits.get("train", 0)
        trained = left if self.trained is None else self.trained
        gone = {} if self.mixed is None else self.mixed.get("held_out", {})
        for what, told in (
            ("duplicates", "held out among the captioned pictures"),
            ("near_duplicates", "look like one that is held out"),
            ("captions", "captions of pictures that are held out"),
        ):
            if gone.get(what):
                found.append((told, int(gone[what]), True))
                left -= int(gone[what])
        if left != trained:
            found.append(("left out for other reasons", left - trained, True))
        last = "left for training" if self.trained is None else "trained on"
        return [*found, (last, trained, False)]

    @property
    def sources(self) -> list[SourceRow]:
        """Each source, in the card's order."""
        rows = []
        for name, tally in self.document["by_source"].items():
            removed = {
                STEP_NAMES[step].partition(" of ")[0]: int(count)
                for step, count in tally.items()
                if step not in ("read", "kept") and count
            }
            trained = weight = None
            if self.mixed is not None:
                mixed = self.mixed["sources"].get(name, {})
                trained, weight = int(mixed.get("available", 0)), mixed.get("weight")
            licence = self.document["licences"].get(name) or "not stated"
            place = self.places.get(name, "")
            counts = tally["read"], removed, tally["kept"], trained, weight
            rows.append(SourceRow(name, place, licence, *counts))
        return rows


def _chart(name: str, histogram: Mapping[str, Any]) -> tuple[str, str, str]:
    title = HISTOGRAM_NAMES.get(name, name)
    bars = [(bar_label(bar), bar["count"]) for bar in histogram["bars"]]
    span = f"{histogram['least']:,} to {histogram['most']:,}, mean {histogram['mean']:,}"
    return title, span, bar_chart(bars, title)


def _sample(prepared: Artifact, entry: Mapping[str, Any]) -> CardSample:
    picture = None
    if "picture" in entry:
        raw = prepared.read(entry["picture"])
        picture = "data:image/png;base64," + base64.b64encode(raw).decode()
    return CardSample(picture, entry["source"], entry["split"], tuple(entry["texts"]))


def read_corpus(
    prepared: Artifact,
    places: Mapping[str, str] | None = None,
    mixed: Mapping[str, Any] | None = None,
) -> CorpusCard:
    """The card in a `prepare-*` artifact, ready to be shown."""
    document = json.loads(prepared.read(CARD))
    charts = tuple(_chart(*item) for item in document["histograms"].items())
    samples = tuple(_sample(prepared, entry) for entry in document["samples"])
    return CorpusCard(document["kind"], document, charts, samples, places or {}, mixed)


def place_in_words(uri: str) -> str:
    """A source's place for a reader: what lies in a bundle's own stage is called so."""
    stage, _, name = uri.removeprefix("input:").partition("/")
    bundle = bundle_at(stage) if uri.startswith("input:") else None
    return uri if bundle is None else f"{bundle.title}, {Path(name).name}"
