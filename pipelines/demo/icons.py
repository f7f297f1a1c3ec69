"""Icons of three drawing styles with their names, beside the emoji: for training alone."""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.icons.names import caption_of, endings_of, folded, identity, is_named, words_of

FOLDER = "material/templates/.icons/"
STYLES = {
    "material": "material",
    "fontawesome/solid": "fontawesome",
    "fontawesome/regular": "fontawesome",
    "octicons": "octicons",
}
"""Folder of the package → style. Its others hold logos, whose names nobody can see."""
_UNSEEN = {"logo", "logos", "brand", "brands", "flag", "flags"}
_BOX = re.compile(r'viewBox="([^"]+)"')
_BODY = re.compile(r"<svg[^>]*>(.*)</svg>", re.DOTALL)


@dataclass(frozen=True)
class NamedIcon:
    """A picture, SVG of a square size, its caption, and its concept: the folded name."""

    style: str
    svg: bytes
    caption: str
    concept: str


def squared(svg: str) -> bytes | None:
    """The drawing in the middle of a square; None for a file that has no view box."""
    box, body = _BOX.search(svg), _BODY.search(svg)
    if box is None or body is None:
        return None
    left, top, width, height = map(float, box[1].replace(",", " ").split())
    side = max(width, height)
    view = f"{left - (side - width) / 2:g} {top - (side - height) / 2:g} {side:g} {side:g}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{side:g}" height="{side:g}" '
        f'viewBox="{view}">{body[1]}</svg>'
    ).encode()


def held_out_concepts(pairs: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The identities of all that the pictures of `pairs` are called by: names and keywords."""
    words = {word for pair in pairs for text in pair["captions"] for word in text.split(", ")}
    return frozenset(identity(folded(word)) for word in words)


def icons(package: Path, held_out: Collection[str], reasons: Counter[str]) -> Iterator[NamedIcon]:
    """One icon of each concept and style, in order of style and name; `held_out`: identities of
    concepts that must not come. `reasons` counts what is left out."""
    with zipfile.ZipFile(package) as archive:
        files: dict[str, list[tuple[str, str]]] = {}
        for file in sorted(archive.namelist()):
            folder, _, name = file.removeprefix(FOLDER).rpartition("/")
            if file.startswith(FOLDER) and folder in STYLES and name.endswith(".svg"):
                files.setdefault(STYLES[folder], []).append((name.removesuffix(".svg"), file))
        for style, named in files.items():
            endings = endings_of(name for name, _ in named)
            seen = set[str]()
            # The shortest name of a concept is the plain drawing's: `account`, `account-outline`.
            for name, file in sorted(named, key=lambda one: (len(words_of(one[0])), one)):
                concept = folded(name)
                if _UNSEEN & set(words_of(name)) or not is_named(concept):
                    reasons["a logo, a flag or no word"] += 1
                elif identity(concept) in held_out:
                    reasons["its concept is held out"] += 1
                elif concept in seen:
                    reasons["its style has its concept"] += 1
                elif (svg := squared(archive.read(file).decode("utf-8"))) is None:
                    reasons["no view box"] += 1
                else:
                    seen.add(concept)
                    yield NamedIcon(style, svg, caption_of(name, endings), concept)
