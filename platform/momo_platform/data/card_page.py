"""A card as Markdown that GitHub renders: `card.json`'s document in, text out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_WIDTH = 30
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>|~$@&!]|:(?=[\w/+-])|(?<=www)\.")
STEP_NAMES = {
    "read": "read",
    "quarantined": "unusable",
    "duplicates": "exact duplicates",
    "near_duplicates": "near duplicates of held-out pictures",
    "kept": "kept",
    "language": "in another language",
    "tested": "in a test set",
    "near_text": "near duplicates",
    "score": "with a low score",
}
HISTOGRAM_NAMES = {
    "width": "Width in pixels, before it was capped",
    "height": "Height in pixels, before it was capped",
    "caption_characters": "Characters of a caption",
    "caption_words": "Words of a caption",
    "document_characters": "Characters of a document",
    "document_words": "Words of a document",
}


def plain(text: str) -> str:
    """Text that Markdown shows as it is: what it would read as markup becomes an entity."""
    return _SPECIAL.sub(lambda m: f"&#{ord(m[0])};", " ".join(text.split()))


def bar_label(bar: Mapping[str, int]) -> str:
    """'6 – 7' for a bar from 6 to 8 (not included), '1' for one from 1 to 2."""
    first, last = bar["from"], bar["to"] - 1
    return f"{first:,}" if first == last else f"{first:,} – {last:,}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: int) -> Iterator[str]:
    """Lines of a table whose last `numbers` columns are flush right."""
    left = len(head) - numbers
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * left + "---:|" * numbers
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def _tallies(title: str, tallies: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    names = list(next(iter(tallies.values()), {}))
    head = [title, *(STEP_NAMES[n].partition(" of ")[0] for n in names)]
    rows = [[plain(n), *(f"{count:,}" for count in tally.values())] for n, tally in tallies.items()]
    yield from _table(head, rows, len(names))


def _histogram(name: str, histogram: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {HISTOGRAM_NAMES.get(name, name)}"
    yield ""
    yield (
        f"{histogram['count']:,} values from {histogram['least']:,} to {histogram['most']:,}, "
        f"mean {histogram['mean']:,}"
    )
    yield ""
    highest = max((b["count"] for b in histogram["bars"]), default=1)
    rows = [
        [
            bar_label(bar),
            "█" * max(round(_WIDTH * bar["count"] / highest), bool(bar["count"])),
            f"{bar['count']:,}",
        ]
        for bar in histogram["bars"]
    ]
    yield from _table(["from – to", "", "count"], rows, 1)


def _samples(samples: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "## Samples"
    yield ""
    with_pictures = any("picture" in s for s in samples)
    rows = []
    for sample in samples:
        row = [plain(sample["source"]), sample["split"], "<br>".join(map(plain, sample["texts"]))]
        rows.append([f"![]({sample['picture']})", *row] if with_pictures else row)
    head = ["source", "split", "text" if not with_pictures else "captions"]
    yield from _table(["picture", *head] if with_pictures else head, rows, 0)


def _quality(quality: Mapping[str, Any]) -> Iterator[str]:
    yield "## Which of the usable rows are left out"
    yield ""
    if (least := quality["least_score"]) is not None:
        yield f"The lowest score that is kept is {least:.4f}."
        yield ""
    if quality["reasons"]:
        reasons = [[plain(r), f"{n:,}"] for r, n in quality["reasons"].items()]
        yield from _table(["reason", "rows"], reasons, 1)
    rows = [
        [STEP_NAMES[step], plain(one["source"]), plain(one["key"]), plain(one["reason"])]
        for step, some in quality["examples"].items()
        for one in some
    ]
    if rows:
        yield from _table(["step", "source", "for example", "reason"], rows, 0)


def _lines(card: Mapping[str, Any]) -> Iterator[str]:
    kept = card["steps"][-1]["rows"]
    yield f"# Corpus {card['name']}"
    yield ""
    sources = len(card["by_source"])
    yield f"{kept:,} rows of kind {card['kind']} from {sources} source{'s' * (sources != 1)}."
    yield ""
    yield "## Rows after each step"
    yield ""
    rows = [[STEP_NAMES[s["step"]], f"{s['removed']:,}", f"{s['rows']:,}"] for s in card["steps"]]
    yield from _table(["step", "removed", "rows left"], rows, 2)
    bits = card["near_duplicate_bits"]
    if bits is not None:
        yield f"Near duplicates: {'not searched' if bits < 0 else f'{bits} of 64 bits may differ'}."
        yield ""
    yield from _tallies("source", card["by_source"])
    yield from _tallies("split", card["by_split"])
    if card["reasons"]:
        yield "## Why rows are unusable"
        yield ""
        reasons = [[plain(r), f"{n:,}"] for r, n in card["reasons"].items()]
        yield from _table(["reason", "rows"], reasons, 1)
    if quality := card.get("quality"):
        yield from _quality(quality)
    if unread := card.get("ignored"):
        yield "## What is not read"
        yield ""
        rows = [
            [
                plain(name),
                plain(one["reason"]),
                plain(", ".join(one["examples"])),
                f"{one['files']:,}",
            ]
            for name, found in unread.items()
            for one in found
        ]
        yield from _table(["source", "reason", "for example", "files"], rows, 1)
    yield "## Licences and files"
    yield ""
    licences = [[plain(n), plain(x) or "not stated"] for n, x in card["licences"].items()]
    yield from _table(["source", "licence"], licences, 0)
    files = card["files"]
    yield f"{files['count']:,} files, {files['bytes']:,} bytes; sha256 of the listing:"
    yield f"`{files['sha256']}`"
    yield ""
    if card["histograms"]:
        yield "## Sizes" + (" before rows were left out for their quality" if quality else "")
        yield ""
    for name, histogram in card["histograms"].items():
        yield from _histogram(name, histogram)
    if card["samples"]:
        yield from _samples(card["samples"])


def markdown(card: Mapping[str, Any]) -> str:
    """The whole page."""
    return "\n".join(_lines(card)).rstrip() + "\n"
