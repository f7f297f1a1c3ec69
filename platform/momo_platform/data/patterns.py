"""Several places in one word, as shells and webdataset write them, and lists in files."""

from __future__ import annotations

import glob
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from momo_platform.stages.errors import UserError

_WEIGHT = re.compile(r"(?P<place>.+):(?P<weight>\d+(?:\.\d+)?)")
_BRACES = re.compile(r"\{[^{}]*(?:\.\.|,)[^{}]*\}")
_WILD = re.compile(r"[*?\[]")


def is_pattern(place: str) -> bool:
    """Whether it stands for several files: `{000..123}`, `{a,b}`, `*`, `[ab]`; here also `?`, with
    which a URI's options begin. A place that is there by this very name is itself."""
    path = _without_options(place)
    if not (_BRACES.search(path) or _WILD.search(path)) or place.startswith("hf://"):
        return False
    return "://" in place or not os.path.exists(os.path.expanduser(place))


def _without_options(place: str) -> str:
    return place.partition("?")[0] if "://" in place else place


def root_of(place: str) -> str:
    """The folder before a pattern's first sign; another place as it is."""
    if not is_pattern(place):
        return place
    path = _without_options(place)
    signs = (m.start() for p in (_BRACES, _WILD) if (m := p.search(path)))
    return path[: min(signs)].rpartition("/")[0] + place[len(path) :]


def expand(place: str) -> list[str]:
    """The places that a pattern stands for: of braces all, there or not; of wild cards those that
    are there, sorted. Without a pattern the place."""
    if not is_pattern(place):
        return [place]
    from braceexpand import UnbalancedBracesError, braceexpand

    path = _without_options(place)
    try:
        words = list(braceexpand(path)) if _BRACES.search(path) else [path]
    except UnbalancedBracesError as error:
        raise UserError(f"{place}: {error}") from error
    options = place[len(path) :]
    whole = (f"{word}{options}" for word in words)
    return [one for word in whole for one in (_matches(word) if is_pattern(word) else [word])]


def _matches(place: str) -> list[str]:
    """`**` stands for any number of folders."""
    if "://" not in place:
        return sorted(glob.glob(str(Path(place).expanduser()), recursive=True))
    from pyarrow import fs as pafs

    path, (root, _, options) = _without_options(place), root_of(place).partition("?")
    system, base = pafs.FileSystem.from_uri(root_of(place))
    found = system.get_file_info(pafs.FileSelector(base, recursive=True, allow_not_found=True))
    wanted = path[len(root) :].strip("/").split("/")
    names = [posixpath.relpath(info.path, base) for info in found]
    end = f"?{options}" if options else ""
    return sorted(f"{root}/{n}{end}" for n in names if _fits(n.split("/"), wanted))


def _fits(name: Sequence[str], wanted: Sequence[str]) -> bool:
    if not wanted:
        return not name
    if wanted[0] == "**":
        return any(_fits(name[start:], wanted[1:]) for start in range(len(name) + 1))
    return bool(name) and fnmatchcase(name[0], wanted[0]) and _fits(name[1:], wanted[1:])


def weighted(word: str, weight: float = 1.0) -> tuple[str, float]:
    """Place and weight of `place:2.5`; `weight` where it names none. What is there by this very
    name is a place."""
    match = _WEIGHT.fullmatch(word)
    if match is None or os.path.exists(os.path.expanduser(word)):
        return word, weight
    return match["place"], float(match["weight"])


def listed(words: Sequence[str], weight: float = 1.0) -> Iterator[tuple[str, float]]:
    """Places with their weights: `place`, `place:2`, `@FILE` with one of them a line (`#` begins a
    comment, paths are from the file's folder on). Raises UserError for one that can't be read."""
    for word in words:
        if not word.startswith("@"):
            yield weighted(word, weight)
            continue
        file = Path(word[1:]).expanduser()
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeError) as error:
            raise UserError(f"{word}: the list of sources can't be read: {error}") from error
        named = [line.partition("#")[0].strip() for line in lines]
        if not any(named):
            raise UserError(f"{word}: the list of sources names none")
        for line in filter(None, named):
            place, found = weighted(line, weight)
            there = place if "://" in place else str(file.parent / Path(place).expanduser())
            yield there, found


def names_of(places: Sequence[str]) -> list[str]:
    """A short name of each, different from each other: its last word without its ending; `own` for
    the only one."""
    if len(places) == 1:
        return ["own"]
    found: list[str] = []
    for place in places:
        path = root_of(place).partition("://")[2] or root_of(place)
        word = posixpath.splitext(posixpath.basename(path.rstrip("/")))[0]
        word = re.sub(r"[^A-Za-z0-9]+", "-", word).strip("-").lower() or "source"
        number = sum(one == word or one.startswith(f"{word}-") for one in found)
        found.append(f"{word}-{number + 1}" if word in found else word)
    return found
