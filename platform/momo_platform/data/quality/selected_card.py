"""The card of a corpus of which some rows were kept: that of its preparation, with what went since.

What it says of sizes is of all rows of the preparation; samples are of rows that are kept.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from momo_platform.data.artifacts import CARD, CARD_PAGE, PreparedRows
from momo_platform.data.card_page import markdown
from momo_platform.data.quality.config import QualityConfig
from momo_platform.data.quality.passes import EXAMPLES


def write_selected_card(
    prepared: PreparedRows,
    output: Path,
    records: Sequence[Mapping[str, Any]],
    steps: Sequence[str],
    config: QualityConfig,
    threshold: float | None,
) -> dict[str, Any]:
    """Write `card.json` and `card.md`; returns the stage's metrics. `records` are of `write_kept`;
    `threshold`: the lowest score that is kept."""
    by_source: dict[str, Counter[str]] = {}
    for record in records:
        by_source.setdefault(record["source"], Counter()).update(record["steps"])
    total = sum(by_source.values(), Counter[str]())
    reasons: Counter[str] = Counter()
    for record in records:
        reasons.update(record["reasons"])
    card = prepared.card()
    card["name"] = f"quality-{card['kind']}"
    for step in steps:
        left = card["steps"][-1]["rows"] - total[step]
        card["steps"].append({"step": step, "removed": total[step], "rows": left})
    for name, tally in card["by_source"].items():
        _take(tally, by_source.get(name, Counter()), steps)
    for name, tally in card["by_split"].items():
        _take(tally, total if name == "train" else Counter(), steps)
    went = {(source, key) for record in records for source, key in record["samples"]}
    shown = [s for s in card["samples"] if (s["source"], s["key"]) not in went]
    card["samples"] = [_with_picture(prepared, output, sample) for sample in shown]
    card["quality"] = {
        "settings": asdict(config),
        "least_score": threshold,
        "reasons": dict(reasons.most_common()),
        "examples": _examples(records, steps),
    }
    text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    (output / CARD).write_text(text, encoding="utf-8")
    (output / CARD_PAGE).write_text(markdown(card), encoding="utf-8")
    return {
        **{step: total[step] for step in steps},
        "kept": card["steps"][-1]["rows"],
        "reasons": dict(reasons.most_common(20)),
        "least_score": threshold,
        "sources": {name: dict(tally) for name, tally in card["by_source"].items()},
    }


def _take(tally: dict[str, int], gone: Counter[str], steps: Sequence[str]) -> None:
    """Put what went since before what is kept."""
    kept = tally.pop("kept")
    tally.update({step: gone[step] for step in steps}, kept=kept - gone.total())


def _with_picture(prepared: PreparedRows, output: Path, sample: dict[str, Any]) -> dict[str, Any]:
    if "picture" in sample:
        file = output / sample["picture"]
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(prepared.place.read(sample["picture"]))
    return sample


def _examples(records: Sequence[Mapping[str, Any]], steps: Sequence[str]) -> dict[str, Any]:
    """Step → a few rows that went, of the first files: their source, key and reason."""
    found: dict[str, list[dict[str, str]]] = {step: [] for step in steps}
    for record in records:
        for step, source, key, reason in record["examples"]:
            if len(found[step]) < EXAMPLES:
                found[step].append({"source": source, "key": key, "reason": reason})
    return found
