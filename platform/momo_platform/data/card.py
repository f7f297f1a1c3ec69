"""A corpus's card: what was read, what went and why, how long and large things are, some samples.

`card.json` is for programs (the report reads it), `card.md` for people; both lie beside the data,
with sample pictures in `card_samples/`. Tasks count their rows each and hand on a record; the card
is what the records together say, in whatever order they come. Equal rows give equal bytes: no
dates, no places.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from bisect import bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from momo_platform.data.artifacts import CARD, CARD_PAGE
from momo_platform.data.card_page import markdown
from momo_platform.data.config import Kind, SourceConfig
from momo_platform.data.readers.base import Ignored

CARD_SAMPLES = "card_samples"
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

    def merge(self, other: Histogram) -> None:
        """Count what another has counted."""
        self.least = min((h.least for h in (self, other) if h.count), default=0)
        self.most = max(self.most, other.most)
        self.bars += other.bars
        self.count += other.count
        self.total += other.total

    def record(self) -> list[Any]:
        """As JSON has it."""
        return [sorted(self.bars.items()), self.count, self.total, self.least, self.most]

    @staticmethod
    def of(record: Sequence[Any]) -> Histogram:
        """Inverse of `record`."""
        return Histogram(Counter(dict(record[0])), *record[1:])

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


@dataclass(frozen=True)
class _Sample:
    """A row's place among the samples, what the card shows of it, and its picture (with `small`
    already as the card has it)."""

    place: tuple[str, str]
    entry: dict[str, Any]
    picture: bytes | None
    small: bool = False

    def shown(self) -> bytes | None:
        """The picture as the card has it."""
        return self.picture if self.small or self.picture is None else _small_png(self.picture)


class _Samples:
    """The rows whose key's digests are least, up to `_SAMPLES` of each source."""

    def __init__(self) -> None:
        self._least: dict[str, list[_Sample]] = {}

    def add_row(self, row: dict[str, Any]) -> None:
        """Of rows with equal keys their content's digest decides."""
        key = hashlib.sha256(f"{row['source']}\0{row['key']}".encode()).hexdigest()[:16]
        least = self._least.setdefault(row["source"], [])
        if len(least) == _SAMPLES and key > least[-1].place[0]:
            return
        picture = row.get("image")
        texts = row.get("captions", [row["text"]] if "text" in row else [])[:_SAMPLE_CAPTIONS]
        entry = {n: row[n] for n in ("source", "key", "split")}
        entry["texts"] = [t[:_SAMPLE_TEXT] + "…" * (len(t) > _SAMPLE_TEXT) for t in texts]
        content = hashlib.sha256(json.dumps(entry).encode() + (picture or b"")).hexdigest()[:16]
        self.add(_Sample((key, content), entry, picture))

    def add(self, sample: _Sample) -> None:
        least = self._least.setdefault(sample.entry["source"], [])
        insort(least, sample, key=lambda s: s.place)
        del least[_SAMPLES:]

    def record(self) -> list[Any]:
        """As JSON has it, pictures small."""
        found = [(s, s.shown()) for least in self._least.values() for s in least]
        return [[s.place, s.entry, p and base64.b64encode(p).decode()] for s, p in found]

    def merge(self, record: Sequence[Any]) -> None:
        """Add those of a record."""
        for place, entry, picture in record:
            raw = picture and base64.b64decode(picture)
            self.add(_Sample((place[0], place[1]), entry, raw, small=True))

    def chosen(self) -> list[_Sample]:
        """`_SAMPLES` rows, the sources in turn."""
        queues = [self._least[name] for name in sorted(self._least)]
        turns = [q[i] for i in range(_SAMPLES) for q in queues if i < len(q)]
        return turns[:_SAMPLES]


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
    """Counts rows as they pass, or takes the records of others that did, and writes the card.

    Memory: a few samples a source, and the counts.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.ignored: dict[str, Ignored] = {}
        """By source, what was not read. Records are without it: it is known when rows are listed,
        not when they are counted."""
        self._tallies = {n: defaultdict[str, Counter[str]](Counter) for n in ("source", "split")}
        self._reasons: Counter[str] = Counter()
        self._examples: dict[str, tuple[str, str, str]] = {}
        self._histograms = defaultdict[str, Histogram](Histogram)
        self._samples = _Samples()

    @property
    def total(self) -> Counter[str]:
        """Rows by step, over all sources."""
        return sum(self._tallies["source"].values(), Counter())

    @property
    def by_source(self) -> dict[str, dict[str, int]]:
        """Rows by source and step, where there are any."""
        tallies = sorted(self._tallies["source"].items())
        return {name: {s: tally[s] for s in STEPS if tally[s]} for name, tally in tallies}

    @property
    def reasons(self) -> Counter[str]:
        """Rows by why they can't be used, the most frequent reason first."""
        return Counter(dict(sorted(self._reasons.items(), key=lambda r: (-r[1], r[0]))))

    @property
    def examples(self) -> dict[str, tuple[str, str]]:
        """Of each reason the key of the first row, by source and key, and its reason with whatever
        it names; the reason of the first of these rows first."""
        found = sorted(self._examples.items(), key=lambda e: e[1])
        return {reason: (key, whole) for reason, (_, key, whole) in found}

    def count(self, row: dict[str, Any], fate: str) -> None:
        """One row was read and its fate is one of STEPS but "read"."""
        split = row["split"] if row["split"] in SPLIT_NAMES else "unknown"
        for what, name in (("source", row["source"]), ("split", split)):
            tally = self._tallies[what][name]
            tally["read"] += 1
            tally[fate] += 1
        if fate == "quarantined":
            reason = row["reason"].split(":")[0][:80]
            self._reasons[reason] += 1
            self._name(reason, (row["source"], row["key"], row["reason"]))
        if fate == "kept":
            self._measure(row)
            self._samples.add_row(row)

    def _name(self, reason: str, example: tuple[str, str, str]) -> None:
        self._examples[reason] = min(example, self._examples.get(reason, example))

    def _measure(self, row: dict[str, Any]) -> None:
        values = [(n, row[n]) for n in self.kind.measured if row.get(n) is not None]
        what, texts = "caption", row.get("captions", ())
        if "text" in row:
            what, texts = "document", (row["text"],)
        for text in texts:
            values += [(f"{what}_characters", len(text)), (f"{what}_words", len(text.split()))]
        for name, value in values:
            self._histograms[name].add(value)

    def record(self) -> dict[str, Any]:
        """What was counted, as JSON has it, for `merge`: some kB, and the sample pictures, small,
        12 of a source at most."""
        return {
            "tallies": self._tallies,
            "reasons": self._reasons,
            "examples": self._examples,
            "histograms": {n: h.record() for n, h in self._histograms.items()},
            "samples": self._samples.record(),
        }

    def merge(self, record: Mapping[str, Any]) -> None:
        """Count what another counted. The order of records makes no difference."""
        for what, tallies in record["tallies"].items():
            for name, tally in tallies.items():
                self._tallies[what][name].update(tally)
        self._reasons.update(record["reasons"])
        for reason, (source, key, whole) in record["examples"].items():
            self._name(reason, (source, key, whole))
        for name, histogram in record["histograms"].items():
            self._histograms[name].merge(Histogram.of(histogram))
        self._samples.merge(record["samples"])

    def _sample(self, sample: _Sample, number: int, output: Path) -> dict[str, Any]:
        """One sample's entry; a picture is written to its file."""
        picture = sample.shown()
        if picture is None:
            return sample.entry
        name = f"{CARD_SAMPLES}/{number:02d}.png"
        (output / CARD_SAMPLES).mkdir(exist_ok=True)
        (output / name).write_bytes(picture)
        return {**sample.entry, "picture": name}

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
        measured = {name: place for place, name in enumerate(self.kind.measured)}
        names = sorted(self._histograms, key=lambda n: (measured.get(n, len(measured)), n))
        document = {
            "format": FORMAT,
            "name": f"prepare-{self.kind.name}",
            "kind": self.kind.name,
            "steps": _after_each(self.total, steps),
            "by_source": _in_order(self._tallies["source"], steps),
            "by_split": _in_order(self._tallies["split"], steps, SPLIT_NAMES),
            "reasons": dict(self.reasons),
            "near_duplicate_bits": near_duplicate_bits,
            "licences": {s.name: s.licence for s in sources},
            "files": dict(files),
            "histograms": {n: self._histograms[n].document() for n in names},
            "samples": [self._sample(r, n, output) for n, r in enumerate(self._samples.chosen())],
        }
        if unread := {name: _unread(one) for name, one in self.ignored.items() if one.counts}:
            document["ignored"] = unread
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        (output / CARD).write_text(text, encoding="utf-8")
        (output / CARD_PAGE).write_text(markdown(document), encoding="utf-8")
