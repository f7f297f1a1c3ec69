"""From icons to concepts: captions, splits, and which pictures train and which test."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipelines.icons.collection import Icon, icons_of
from pipelines.icons.names import (
    caption_of,
    endings_of,
    folded,
    identity,
    is_named,
    position,
    split_of,
    words_of,
)

MOST_CAPTIONS = 4
_BRAND_WORDS = {"logo", "logos", "brand", "brands", "wordmark", "flag"}
_BRAND_CATEGORY = re.compile(r"\b(?:brands?|logos?|flags?)\b", re.IGNORECASE)
_SKIN = re.compile(
    r"\b(?:skin|light|medium|dark)\b.*\b(?:tone|light|medium|dark)\b|\b(?:dark|light|medium)$"
)
_COUNTRY_FLAG = re.compile(r"^flag\b(?!s)")
_FAMILIES = {  # sets whose pictures were made from each other's, beside those of one first word
    **dict.fromkeys(("ic", "la", "zmdi", "memory"), "material"),
    **dict.fromkeys(("mdi", "uim", "uis", "uit", "uil"), "unicons"),
    **dict.fromkeys(("mi", "feather", "lucide"), "feather"),
    **dict.fromkeys(("famicons", "ion"), "ion"),
    **dict.fromkeys(("bx", "bxs", "bxl"), "boxicons"),
    **dict.fromkeys(("fa", "fa6", "fa7", "whh"), "fa"),
}


def family_of(style: str) -> str:
    """A name that sets share which have pictures of each other: `fa6-solid` and `fa7-solid` do."""
    first = style.split("-")[0]
    return _FAMILIES.get(first, first)


@dataclass(frozen=True)
class IconPicture:
    """An icon with what it shows. `split`: train, valid or test, that of its concept in all sets;
    `keys`: identities of all its names' concepts."""

    style: str
    svg: bytes
    captions: tuple[str, ...]
    concept: str
    split: str
    keys: frozenset[str]

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.svg).digest()


def pictures_of(data: Mapping[str, Any], seed: int, reasons: Counter[str]) -> Iterator[IconPicture]:
    """Of a set's file, those whose names say something; `reasons` counts the others."""
    prefixes = tuple(data.get("prefixes") or ())
    icons = [*icons_of(data, reasons)]
    endings = endings_of(icon.names[0] for icon in icons)
    for icon in icons:
        found = _picture(icon, endings, prefixes, seed)
        if isinstance(found, str):
            reasons[found] += 1
        else:
            yield found


def _picture(
    icon: Icon, endings: frozenset[str], prefixes: Sequence[str], seed: int
) -> IconPicture | str:
    captions = dict.fromkeys(caption_of(name, endings, prefixes) for name in icon.names)
    concepts = [folded(name, prefixes) for name in icon.names]
    words = {word for name in icon.names for word in words_of(name)}
    if words & _BRAND_WORDS or any(map(_BRAND_CATEGORY.search, icon.categories)):
        return "a logo, a brand or a flag"
    if not is_named(concepts[0]):
        return "its name has no word"
    splits = {split_of(concept, seed) for concept in concepts}
    if len(splits) > 1:
        return "its names fall into several parts"
    named = tuple(caption for caption in captions if is_named(caption))[:MOST_CAPTIONS]
    keys = frozenset(map(identity, concepts))
    return IconPicture(icon.style, icon.svg, named, concepts[0], splits.pop(), keys)


def emoji_of(data: Mapping[str, Any]) -> Iterator[IconPicture]:
    """Of a set of emoji, without flags, keycaps and the skin tones' variants; nothing of it is
    trained on, so that its split is test."""
    for icon in icons_of(data, Counter()):
        name = icon.names[0]
        words = " ".join(words_of(name))
        if _SKIN.search(words) or _COUNTRY_FLAG.search(words) or "Flags" in icon.categories:
            continue
        concept = folded(name)
        if is_named(concept) and "keycap" not in words:
            keys = frozenset((identity(concept),))
            yield IconPicture(icon.style, icon.svg, (words,), concept, "test", keys)


def brands_in(names: Iterable[str]) -> set[str]:
    """Names of logos, as captions' words joined."""
    return {"".join(words_of(name)) for name in names}


def is_brand(picture: IconPicture, brands: set[str], words: set[str]) -> bool:
    """Whether its name is a logo's and has a word that no dictionary knows."""
    parts = words_of(picture.captions[0])
    return "".join(parts) in brands and not all(
        part in words or part.removesuffix("s") in words for part in parts
    )


@dataclass
class IconChoice:
    """`pairs`: what is trained on and held out; `named`, `retrieval`: pictures of the tasks;
    `left_out`: reason → pictures."""

    pairs: list[IconPicture] = field(default_factory=list)
    named: list[IconPicture] = field(default_factory=list)
    retrieval: list[IconPicture] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def choose_pictures(
    pictures: Sequence[IconPicture],
    *,
    seed: int,
    most: int,
    in_a_set: int,
    least_sets: int,
    tested: int,
    unseen: Iterable[IconPicture] = (),
) -> IconChoice:
    """Which pictures are for what.

    Of a concept at most `in_a_set` of one set are kept (0: all), and concepts that at least
    `least_sets` sets have. Whole concepts are drawn by hash, until there are `most` pictures to
    train on (0: all) and a tenth as many to test with. `tested`: concepts of each task at most.
    What looks to the byte like a held-out picture or an `unseen` one is not trained on.
    """
    chosen = IconChoice()
    concepts = _by_concept(pictures, seed, in_a_set, chosen.left_out)
    sets = {concept: {p.style for p in found} for concept, found in concepts.items()}
    order = sorted(concepts, key=lambda c: (position(seed, c, "order"), c))
    kept = {c: concepts[c] for c in order if len(sets[c]) >= least_sets}
    rare = sum(len(found) for c, found in concepts.items() if c not in kept)
    chosen.left_out[f"fewer than {least_sets} sets have its concept"] += rare
    several = [c for c in kept if len(sets[c]) >= 2]
    held_out = _distinct(c for c in several if kept[c][0].split == "test")
    chosen.retrieval = [
        min(kept[c], key=lambda p: position(seed, p.style, c)) for c in held_out[:tested]
    ]
    first = [c for c in kept if c in set(held_out[:tested])]
    rest = [c for c in kept if c not in set(first)]
    parts: dict[str, list[IconPicture]] = {"train": [], "valid": [], "test": []}
    shares = {"train": most, "valid": most // 50, "test": most // 10}
    for concept in (*first, *rest):
        found, split = kept[concept], kept[concept][0].split
        if most and len(parts[split]) + len(found) > shares[split] and concept not in first:
            chosen.left_out["more pictures than asked for"] += len(found)
        else:
            parts[split] += found
    parts["train"], chosen.named = _without_named(parts["train"], seed, tested)
    held = [*parts["valid"], *parts["test"], *chosen.named, *unseen]
    chosen.pairs = [
        *_without(held, parts["train"], chosen.left_out),
        *parts["valid"],
        *parts["test"],
    ]
    return chosen


def _by_concept(
    pictures: Sequence[IconPicture], seed: int, in_a_set: int, left_out: Counter[str]
) -> dict[str, list[IconPicture]]:
    """Each picture once, its captions joined with those of its copies; by concept."""
    once: dict[bytes, IconPicture] = {}
    for picture in pictures:
        digest = picture.digest
        if (before := once.get(digest)) is None:
            once[digest] = picture
            continue
        left_out["the same picture, to the byte"] += 1
        if before.split == picture.split:
            captions = tuple(dict.fromkeys((*before.captions, *picture.captions)))
            keys = before.keys | picture.keys
            once[digest] = replace(before, captions=captions[:MOST_CAPTIONS], keys=keys)
        elif _rank(picture) < _rank(before):
            once[digest] = picture  # what is held out anywhere is not trained on
    concepts: defaultdict[str, defaultdict[str, list[IconPicture]]]
    concepts = defaultdict(lambda: defaultdict(list))
    for picture in once.values():
        concepts[picture.concept][picture.style].append(picture)
    found: dict[str, list[IconPicture]] = {}
    for concept, of_sets in concepts.items():
        found[concept] = []
        for same in of_sets.values():
            same.sort(key=lambda p: position(seed, p.digest.hex()))
            kept = same[:in_a_set] if in_a_set else same
            left_out["more of its concept than asked for of a set"] += len(same) - len(kept)
            found[concept] += kept
    return found


def _rank(picture: IconPicture) -> int:
    return ("test", "valid", "train").index(picture.split)


def _distinct(concepts: Iterable[str]) -> list[str]:
    """One of `check box`, `checkbox` and `box check`: as a caption one would be the other's."""
    return [*{identity(concept): concept for concept in concepts}.values()]


def _without_named(
    training: Sequence[IconPicture], seed: int, tested: int
) -> tuple[list[IconPicture], list[IconPicture]]:
    """The training's pictures without those of the naming task, and these: of each of its concepts
    one, whose family of sets is left out of that concept's training, which has two others."""
    families: defaultdict[str, set[str]] = defaultdict(set)
    for picture in training:
        families[picture.concept].add(family_of(picture.style))
    able = [c for c, of in families.items() if len(of) >= 3]
    able.sort(key=lambda c: (position(seed, c, "named"), c))
    out = {
        c: min(families[c], key=lambda f: position(seed, f, c)) for c in _distinct(able)[:tested]
    }
    families_out = {identity(concept): family for concept, family in out.items()}
    kept, named = [], {}
    for picture in training:
        family = family_of(picture.style)
        if out.get(picture.concept) == family:
            named.setdefault(picture.concept, picture)
        elif all(families_out.get(key) != family for key in picture.keys):  # nor by another name
            kept.append(picture)
    return kept, [*named.values()]


def _without(
    held: Sequence[IconPicture], training: Sequence[IconPicture], left_out: Counter[str]
) -> list[IconPicture]:
    """Training pictures whose bytes are no held-out picture's, be they of another concept."""
    known = {picture.digest for picture in held}
    kept = [picture for picture in training if picture.digest not in known]
    left_out["the bytes of a held-out picture"] += len(training) - len(kept)
    return kept


def styles_of(
    pairs: Sequence[IconPicture],
    seed: int,
    styles: int = 40,
    counts: tuple[int, int, int] = (100, 25, 75),
) -> list[IconPicture]:
    """Pictures of the commonest styles, `counts` of each to train, validate and test with; split by
    concept, as all are."""
    common = [s for s, _ in Counter(p.style for p in pairs).most_common(styles)]
    by: defaultdict[tuple[str, str], list[IconPicture]] = defaultdict(list)
    for picture in pairs:
        by[picture.style, picture.split].append(picture)
    return [
        picture
        for style in common
        for split, count in zip(("train", "valid", "test"), counts, strict=True)
        for picture in sorted(
            by[style, split], key=lambda p: position(seed, p.digest.hex(), "style")
        )[:count]
    ]
