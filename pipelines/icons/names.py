"""Names of icons: what they say of the thing, without what they say of the drawing."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence

_STYLES = frozenset(
    [
        "outline",
        "outlined",
        "fill",
        "filled",
        "solid",
        "bold",
        "semibold",
        "thin",
        "regular",
        "light",
        "medium",
        "duotone",
        "duo",
        "twotone",
        "line",
        "linear",
        "lined",
        "stroke",
        "broken",
        "sharp",
        "rounded",
        "remix",
        "flat",
        "color",
        "colored",
        "mono",
        "alt",
        "variant",
        "rtl",
        "ltr",
        "small",
        "large",
        "big",
        "mini",
        "micro",
        "print",
        "expressive",
        "baseline",
        "xs",
        "sm",
        "md",
        "lg",
        "xl",
    ]
)
"""Words that end a name and tell how, not what: cut for a concept, wherever they stand last."""
_ALWAYS = frozenset(["outline", "outlined", "filled", "duotone", "twotone"])
"""Those that mean nothing else, cut from captions too."""
_FRONT = frozenset(["outline", "outlined", "filled", "baseline", "duotone", "twotone"])
_PAIRS = {("two", "tone"): "twotone", ("duo", "tone"): "duotone"}
_ORDINALS = frozenset(["one", "two", "three", "four", "five", "six"])
_SIZE = re.compile(r"\d{1,3}(?:px)?|[a-z]?\d+x\d+")
_NUMBERED = re.compile(r"([a-z]{3,})\d")  # arrow2
_WORD = re.compile(r"[a-z]{2,}")
_BOUNDARY = re.compile(r"[^a-z0-9+]+")
_COMMON = 0.06
"""The share of a set's names that end in a word from which on it is a style there."""


def words_of(name: str) -> list[str]:
    """'Arrow-left_circle' → arrow, left, circle; 'two-tone' is one word."""
    words: list[str] = []
    for word in filter(None, _BOUNDARY.split(name.lower())):
        if words and (joined := _PAIRS.get((words[-1], word))):
            words[-1] = joined
        else:
            words.append(word)
    return words


def _is_style(word: str) -> bool:
    return word in _STYLES or word in _ORDINALS or _SIZE.fullmatch(word) is not None


def _singular(word: str) -> str:
    """By a simple rule, for comparing: its errors make two words one and never one word two."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes", "zes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _without(prefixes: Sequence[str], words: list[str]) -> list[str]:
    for prefix in prefixes:
        front = words_of(prefix)
        if front and words[: len(front)] == front and len(words) > len(front):
            return words[len(front) :]
    return words


def folded(name: str, prefixes: Sequence[str] = ()) -> str:
    """The concept of a name: small letters, no hyphens, no words or numbers of style at its end,
    none of its set's `prefixes`, plurals as singulars. `arrows-left-bold-24` → `arrow left`."""
    words = [*map(_singular, _without(prefixes, words_of(name)))]
    while len(words) > 1 and _is_style(words[-1]):
        words.pop()
    words[-1:] = [_NUMBERED.sub(r"\1", word) for word in words[-1:]]
    while len(words) > 1 and words[0] in _FRONT:
        words.pop(0)
    return " ".join(words)


def identity(concept: str) -> str:
    """Equal for `check box`, `checkbox` and `box check`: its letters in the alphabet's order. Words
    of the same letters by chance only share the part they fall into."""
    return "".join(sorted(concept.replace(" ", "")))


def endings_of(names: Iterable[str]) -> frozenset[str]:
    """The words of style that end many of a set's names, which are cut from its captions."""
    last: Counter[str] = Counter()
    count = 0
    for name in names:
        words = words_of(name)
        count += 1
        while len(words) > 1 and _is_style(words[-1]):
            last[words.pop()] += 1
    common = {word for word, times in last.items() if times >= max(8, _COMMON * count)}
    return frozenset(common | _ALWAYS)


def caption_of(name: str, endings: frozenset[str], prefixes: Sequence[str] = ()) -> str:
    """A name as people would say it, without the set's words of style: 'arrow left'."""
    words = _without(prefixes, words_of(name))
    while len(words) > 1 and (words[-1] in endings or re.fullmatch(r"0\d", words[-1])):
        words.pop()
    while len(words) > 1 and words[0] in _FRONT:
        words.pop(0)
    return " ".join(words)


def is_named(caption: str) -> bool:
    """Whether a caption has a word at all: `4k` and `1` have none."""
    return _WORD.search(caption) is not None


def position(seed: int, key: str, salt: str = "") -> float:
    """A place from 0 to below 1 that depends on seed and key alone."""
    digest = hashlib.sha256(f"{seed}:{salt}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_of(concept: str, seed: int) -> str:
    """Of a concept in all sets: 'test' for one in ten, 'valid' for one in fifty, else 'train'."""
    place = position(seed, identity(concept))
    return "test" if place < 0.10 else "valid" if place < 0.12 else "train"
