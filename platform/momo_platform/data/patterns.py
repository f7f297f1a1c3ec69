"""Several places in one word, as shells and webdataset write them, and lists in files."""

from __future__ import annotations

import glob
import os
import posixpath
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import pyarrow.fs as pafs

from momo_platform.stages.errors import UserError

_WEIGHT = re.compile(r"(?P<place>.+):(?P<weight>\d+(?:\.\d+)?)")
_PORT = re.compile(r"\?(.*&)?endpoint_override=(\w+://)?[^:&]*:\d+$")
_BRACES = re.compile(r"\{[^{}]*(?:\.\.|,)[^{}]*\}")
_WILD = re.compile(r"[*?\[]")
_THREADS = 16  # that ask an object store for a file each
_SHOWN = 3


class BadPattern(UserError):
    """It begins with the pattern."""


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
    """The folder before a pattern's first sign; another place as it is. Raises BadPattern for
    one of buckets."""
    if not is_pattern(place):
        return place
    path = _without_options(place)
    signs = (m.start() for p in (_BRACES, _WILD) if (m := p.search(path)))
    scheme, mark, head = path[: min(signs)].rpartition("://")
    folder, slash, _ = head.rpartition("/")
    folder = folder or slash
    if mark and not folder:
        raise BadPattern(f"{place}: a bucket is named as it is; give patterns behind its name")
    return scheme + mark + folder + place[len(path) :]


def find(place: str, filesystem: pafs.FileSystem, base: str) -> list[pafs.FileInfo]:
    """What a pattern stands for, whose `root_of` is `base` in the file system: of braces each word,
    of wild cards the files and folders that they match (`**` any number of folders). Only folders
    of which names are to be matched are listed. Raises BadPattern for unbalanced braces and for a
    word without anything.
    """
    from braceexpand import braceexpand

    path = _without_options(place)
    rest = path[len(_without_options(root_of(place))) :].lstrip("/")
    try:
        words = list(dict.fromkeys(braceexpand(rest) if _BRACES.search(rest) else [rest]))
    except ValueError as error:  # unbalanced braces
        raise BadPattern(f"{place}: {error}") from error
    if "://" in place:
        words = [urllib.parse.unquote(word) for word in words]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(partial(_matches, filesystem, base), words))
    lacking = [posixpath.join(base, w) for w, some in zip(words, found, strict=True) if not some]
    if lacking and len(words) == 1:
        raise BadPattern(f"{place}: no file is called so")
    if lacking:
        names = ", ".join(lacking[:_SHOWN]) + (", …" if len(lacking) > _SHOWN else "")
        raise BadPattern(
            f"{place}: not there: {names} ({len(lacking)} of the {len(words)} that the braces name)"
        )
    return [info for some in found for info in some]


def _matches(filesystem: pafs.FileSystem, base: str, word: str) -> list[pafs.FileInfo]:
    if not _WILD.search(word):
        (info,) = filesystem.get_file_info([posixpath.join(base, word)])
        return [] if info.type == pafs.FileType.NotFound else [info]
    if isinstance(filesystem, pafs.LocalFileSystem):
        paths = glob.glob(posixpath.join(glob.escape(base), word), recursive=True)
        return filesystem.get_file_info(sorted(paths))
    parts = word.strip("/").split("/")
    return sorted(_walk(filesystem, base, parts), key=lambda info: info.path)


def _walk(
    filesystem: pafs.FileSystem, folder: str, wanted: Sequence[str]
) -> Iterator[pafs.FileInfo]:
    """Below a folder, the files and folders whose names are as wanted; a folder is listed where its
    names are not known."""
    first, more = wanted[0], wanted[1:]
    if first == "**":
        chosen = pafs.FileSelector(folder, recursive=True, allow_not_found=True)
        for info in filesystem.get_file_info(chosen):
            if _fits(posixpath.relpath(info.path, folder).split("/"), wanted):
                yield info
        return
    if _WILD.search(first):
        chosen = pafs.FileSelector(folder, allow_not_found=True)
        found = [i for i in filesystem.get_file_info(chosen) if _fits([i.base_name], [first])]
    else:
        found = filesystem.get_file_info([posixpath.join(folder, first)])
    for info in found:
        if more and info.type == pafs.FileType.Directory:
            yield from _walk(filesystem, info.path, more)
        elif not more and info.type != pafs.FileType.NotFound:
            yield info


def _fits(name: Sequence[str], wanted: Sequence[str]) -> bool:
    """As `glob` has it: hidden names only where they are written so."""
    if not wanted:
        return not name
    if wanted[0] == "**":
        return any(
            _fits(name[start:], wanted[1:] or ["*"] * (len(name) - start))
            for start in range(len(name) + 1)
            if not any(folder.startswith(".") for folder in name[:start])
        )
    shown = bool(name) and (not name[0].startswith(".") or wanted[0].startswith("."))
    return shown and fnmatchcase(name[0], wanted[0]) and _fits(name[1:], wanted[1:])


def weighted(word: str, weight: float = 1.0) -> tuple[str, float]:
    """Place and weight of `place:2.5`; `weight` where it names none. What is there by this very
    name is a place; a number right behind the name of a data set (`hf://set:2024`) is its
    configuration, and one of a URI's `endpoint_override` its port."""
    match = _WEIGHT.fullmatch(word)
    if match is None or os.path.exists(os.path.expanduser(word)) or _PORT.search(word):
        return word, weight
    place = match["place"]
    if place.startswith("hf://") and not set(place.removeprefix("hf://")) & set("@:"):
        return word, weight
    return place, float(match["weight"])


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


def names_of(places: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """A short name of each, different from each other and those `taken`: its last word without its
    ending; `own` for the only one."""
    if len(places) == 1 and not taken:
        return ["own"]
    found: list[str] = []
    for place in places:
        path = _without_options(root_of(place)).partition("://")[2] or root_of(place)
        path = path.partition("@")[0].partition(":")[0] if place.startswith("hf://") else path
        word = posixpath.splitext(posixpath.basename(path.rstrip("/")))[0]
        word = re.sub(r"[^A-Za-z0-9]+", "-", word).strip("-").lower() or "source"
        number, name = 1, word
        while name in (*found, *taken):
            number += 1
            name = f"{word}-{number}"
        found.append(name)
    return found
