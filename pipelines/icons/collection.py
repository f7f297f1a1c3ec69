"""The package @iconify/json: icons of many sets with names, a JSON file a set."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from momo_platform.stages import UserError

_MEMBER = re.compile(r"package/json/([a-z0-9-]+)\.json")
_ABOUT_BRANDS = ("Logos", "Programming")
_NO_BRANDS = {"codicon"}  # a category's exception
_BRANDS = {"academicons"}  # beside what category and name tell
_FLAGS = re.compile(r"\bflags?\b", re.IGNORECASE)
_MOVES = re.compile(r"<(?:animate|animateTransform|animateMotion|set)\b")
_TURNS = ("rotate", "hFlip", "vFlip")
EMOJI = "emoji"


@dataclass(frozen=True)
class IconSet:
    """A drawing style. `style`: its prefix. `reason`: why nothing of it is trained on, or ""; the
    eleven of category Emoji are left out by `EMOJI`, and tested on."""

    style: str
    title: str
    author: str
    licence: str
    reason: str


@dataclass(frozen=True)
class Icon:
    """`names`: its own, then those of aliases of the same picture. `svg` has a square size."""

    style: str
    names: tuple[str, ...]
    svg: bytes
    categories: tuple[str, ...]


def _left_out(style: str, info: Mapping[str, Any], licence: str) -> str:
    parts = licence.upper().split("-")
    if info.get("category") == "Emoji":
        return EMOJI
    if EMOJI in style:
        return "emoji, of a set that is not one of the tested styles"
    if not licence:
        return "no licence named"
    if "NC" in parts:
        return "licence: not for commercial use"
    if any("GPL" in part for part in parts) or "SA" in parts:
        return "licence: share-alike"
    brands = info.get("category") in _ABOUT_BRANDS and style not in _NO_BRANDS
    if brands or style in _BRANDS or "brands" in style.split("-"):
        return "logos, brands and programs: names that nobody can see"
    if style.split("-")[-1].startswith("flag") or _FLAGS.search(str(info.get("name", ""))):
        return "flags: names that nobody can see"
    return ""


def read_set(data: Mapping[str, Any]) -> IconSet:
    """What a set's file says of the set."""
    info, style = data.get("info", {}), str(data["prefix"])
    licence = str(info.get("license", {}).get("spdx") or "")
    author = str(info.get("author", {}).get("name", ""))
    reason = _left_out(style, info, licence)
    return IconSet(style, str(info.get("name", style)), author, licence, reason)


def read_sets(package: Path) -> Iterator[Mapping[str, Any]]:
    """Each set's file, by prefix: `prefix`, `info`, `icons`, `aliases`, … as iconify has them.

    Raises UserError for an archive that has no sets.
    """
    found: dict[str, tarfile.TarInfo] = {}
    with tarfile.open(package) as archive:
        for member in archive:
            if match := _MEMBER.fullmatch(member.name):
                found[match[1]] = member
                file = archive.extractfile(member)
                assert file is not None
                yield json.loads(file.read())
    if not found:
        raise UserError(f"{package}: no package/json/*.json, so it is no @iconify/json")


def svg_of(icon: Mapping[str, Any], data: Mapping[str, Any]) -> bytes:
    """A whole SVG: the body in the middle of a square, the current colour black."""
    width, height = (float(icon.get(n, data.get(n, 16))) for n in ("width", "height"))
    left, top = (float(icon.get(n, data.get(n, 0))) for n in ("left", "top"))
    side = max(width, height)
    box = (left - (side - width) / 2, top - (side - height) / 2, side, side)
    view = " ".join(f"{number:g}" for number in box)
    body = str(icon["body"]).replace("currentColor", "#000")
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{side:g}" height="{side:g}" viewBox="{view}">{body}</svg>'
    ).encode()


def icons_of(data: Mapping[str, Any], reasons: dict[str, int]) -> Iterator[Icon]:
    """The icons of a set's file that can be used; `reasons` counts the others."""
    aliases: dict[str, list[str]] = {}
    known, icons = data.get("aliases", {}), data["icons"]
    for name, alias in known.items():
        seen, parent, turned = {name}, alias, any(alias.get(t) for t in _TURNS)
        while parent["parent"] not in icons and parent["parent"] not in seen:
            seen.add(parent["parent"])
            parent = known.get(parent["parent"])
            if parent is None:
                break
            turned = turned or any(parent.get(t) for t in _TURNS)
        if parent is not None and not turned and not alias.get("hidden"):
            aliases.setdefault(parent["parent"], []).append(name)
    categories: dict[str, list[str]] = {}
    for category, names in (data.get("categories") or {}).items():
        for name in names:
            categories.setdefault(name, []).append(category)
    for name, icon in icons.items():
        if icon.get("hidden"):
            reasons["hidden by its set, as no longer in use"] += 1
        elif _MOVES.search(icon["body"]):
            reasons["it moves"] += 1
        elif any(icon.get(turn) for turn in _TURNS):
            reasons["turned or mirrored by its file"] += 1
        else:
            named = (name, *aliases.get(name, ()))
            yield Icon(data["prefix"], named, svg_of(icon, data), tuple(categories.get(name, ())))
