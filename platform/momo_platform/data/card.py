"""A corpus's card: what was read, what went and why, how long and large things are, some samples.

`card.json` is for programs (the report reads it), `card.md` for people; both lie beside the data,
with sample pictures in `card_samples/`. Equal rows give equal bytes: no dates, no places.
"""

from __future__ import annotations

import hashlib
import heapq
import io
import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from momo_platform.data.card_page import markdown
from momo_platform.data.config import Kind, SourceConfig
from momo_platform.data.readers.base import Ignored

CARD, CARD_PAGE, CARD_SAMPLES = "card.json", "card.md", "card_samples"
FORMAT = 1
STEPS = ("read", "quarantined", "duplicates", "near_duplicates", "kept")
SPLIT_NAMES = ("train", "valid", "test")
_SAMPLES, _SAMPLE_SIDE, _SAMPLE_TEXT, _SAMPLE_CAPTIONS = 12, 96, 300, 3
# 0, 1, 2, 3, 4, 6, 8, 12, 16 …: two bars a doubling.
_EDGES = (0, 1, *sorted(n << k for k in range(30) for n in (2, 3)))


@dataclass
class Histogram:
    """Counts of whole numbers in fixed bars, so that memory does not grow with the rows."""

    bars: Counter[int] = field(default_factory=Counter)
    count: int = 0
    total: int = 0
    least: int = 0
    most: int = 0

    def add(self, value: int) -> None:
        self.bars[min(bisect_right(_EDGES, value), len(_EDGES) - 1) - 1] += 1
        self.least = min(value, self.least) if self.count else value
        self.most = max(value, self.most)
        self.count += 1
        self.total += value

    def document(self) -> dict[str, Any]:
        """count, least, mean, most, and `bars` of {from, to (not included), count}."""
        numbers = range(min(self.bars), max(self.bars) + 1) if self.bars else ()
        return {
            "count": self.count,
            "least": self.least,
            "mean": round(self.total / max(1, self.count), 2),
            "most": self.most,
            "bars": [
                {"from": _EDGES[n], "to": _EDGES[n + 1], "count": self.bars[n]} for n in numbers
            ],
        }


class _Samples:
    """The rows whose key's digests are least, up to `_SAMPLES` of each source."""

    def __init__(self) -> None:
        self._heaps: dict[str, list[tuple[int, int, dict[str, Any]]]] = {}

    def add(self, row: dict[str, Any], number: int) -> None:
        """`number` tells rows of equal keys apart."""
        digest = hashlib.sha256(f"{row['source']}\0{row['key']}".encode()).digest()
        heap = self._heaps.setdefault(row["source"], [])
        entry = (-int.from_bytes(digest[:8], "big"), -number, row)
        if len(heap) < _SAMPLES:
            heapq.heappush(heap, entry)
        elif entry > heap[0]:
            heapq.heapreplace(heap, entry)

    def chosen(self) -> list[dict[str, Any]]:
        """`_SAMPLES` rows, the sources in turn."""
        queues = [sorted(self._heaps[name], reverse=True) for name in sorted(self._heaps)]
        turns = [q[i] for i in range(_SAMPLES) for q in queues if i < len(q)]
        return [row for _, _, row in turns[:_SAMPLES]]


def _small_png(raw: bytes) -> bytes:
    """A prepared picture as a PNG of at most 96 × 96."""
    picture = Image.open(io.BytesIO(raw)).convert("RGB")
    picture.thumbnail((_SAMPLE_SIDE, _SAMPLE_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _in_order(
    tallies: Mapping[str, Counter[str]], steps: Sequence[str], first: Sequence[str] = ()
) -> dict[str, Any]:
    names = [*(n for n in first if n in tallies), *sorted(set(tallies) - set(first))]
    return {name: {step: tallies[name][step] for step in steps} for name in names}


def _after_each(total: Counter[str], steps: Sequence[str]) -> list[dict[str, Any]]:
    """{step, removed, rows left} of all steps but the last, which is what is left."""
    left, result = total["read"], []
    for step in steps[:-1]:
        removed = 0 if step == "read" else total[step]
        left -= removed
        result.append({"step": step, "removed": removed, "rows": left})
    return result


def _unread(ignored: Ignored) -> list[dict[str, Any]]:
    return [
        {"reason": reason, "files": count, "examples": ignored.examples[reason]}
        for reason, count in sorted(ignored.counts.items(), key=lambda r: (-r[1], r[0]))
    ]


class CardBuilder:
    """Counts rows as they pass and writes the card at the end.

    Memory: a few samples a source and the counts.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.by_source: dict[str, Counter[str]] = {}
        self.by_split: dict[str, Counter[str]] = {}
        self.reasons: Counter[str] = Counter()
        self.examples: dict[str, tuple[str, str]] = {}
        """Of each reason the first row's key, and its reason with whatever it names."""
        self.histograms: dict[str, Histogram] = {}
        self.ignored: dict[str, Ignored] = {}
        """By source, what was not read."""
        self._samples = _Samples()
        self._kept = 0

    @property
    def total(self) -> Counter[str]:
        """Rows by step, over all sources."""
        return sum(self.by_source.values(), Counter())

    def count(self, row: dict[str, Any], fate: str) -> None:
        """One row was read and its fate is one of STEPS but "read"."""
        split = row["split"] if row["split"] in SPLIT_NAMES else "unknown"
        for tallies, name in ((self.by_source, row["source"]), (self.by_split, split)):
            tally = tallies.setdefault(name, Counter())
            tally["read"] += 1
            tally[fate] += 1
        if fate == "quarantined":
            reason = row["reason"].split(":")[0][:80]
            self.reasons[reason] += 1
            self.examples.setdefault(reason, (row["key"], row["reason"]))
        if fate == "kept":
            self._measure(row)
            self._samples.add(row, self._kept)
            self._kept += 1

    def _measure(self, row: dict[str, Any]) -> None:
        values = [(n, row[n]) for n in self.kind.measured if row.get(n) is not None]
        what, texts = "caption", row.get("captions", ())
        if "text" in row:
            what, texts = "document", (row["text"],)
        for text in texts:
            values += [(f"{what}_characters", len(text)), (f"{what}_words", len(text.split()))]
        for name, value in values:
            self.histograms.setdefault(name, Histogram()).add(value)

    def _sample(self, row: dict[str, Any], number: int, output: Path) -> dict[str, Any]:
        """One sample's entry; a picture is written to its file."""
        texts = row.get("captions", [row["text"]] if "text" in row else [])[:_SAMPLE_CAPTIONS]
        entry = {n: row[n] for n in ("source", "key", "split")}
        entry["texts"] = [t[:_SAMPLE_TEXT] + "…" * (len(t) > _SAMPLE_TEXT) for t in texts]
        if row.get("image") is not None:
            entry["picture"] = f"{CARD_SAMPLES}/{number:02d}.png"
            (output / CARD_SAMPLES).mkdir(exist_ok=True)
            (output / entry["picture"]).write_bytes(_small_png(row["image"]))
        return entry

    def write(
        self,
        output: Path,
        sources: Sequence[SourceConfig],
        files: Mapping[str, Any],
        near_duplicate_bits: int | None,
    ) -> None:
        """Write the card. `files`: count, bytes and digest of the listing of what was read; the
        bits are None where there are none."""
        steps = [s for s in STEPS if s != "near_duplicates" or near_duplicate_bits is not None]
        document = {
            "format": FORMAT,
            "name": f"prepare-{self.kind.name}",
            "kind": self.kind.name,
            "steps": _after_each(self.total, steps),
            "by_source": _in_order(self.by_source, steps),
            "by_split": _in_order(self.by_split, steps, SPLIT_NAMES),
            "reasons": dict(sorted(self.reasons.items(), key=lambda r: (-r[1], r[0]))),
            "near_duplicate_bits": near_duplicate_bits,
            "licences": {s.name: s.licence for s in sources},
            "files": dict(files),
            "histograms": {n: h.document() for n, h in self.histograms.items()},
            "samples": [self._sample(r, n, output) for n, r in enumerate(self._samples.chosen())],
        }
        if unread := {name: _unread(one) for name, one in self.ignored.items() if one.counts}:
            document["ignored"] = unread
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        (output / CARD).write_text(text, encoding="utf-8")
        (output / CARD_PAGE).write_text(markdown(document), encoding="utf-8")
