"""What a corpus holds out: rows that name no split are divided by the hash of their group.

The automatic test part is 10 % of the groups, up to 20 % of a corpus with fewer than 5,000, so that
it has 500 where it can, and 10,000 groups of a corpus with more than 100,000. The validation part
is half as large. Nothing depends on the order of rows or on the number of workers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

_SHARE, _LARGEST_SHARE = 0.10, 0.20
_ENOUGH, _MOST = 500, 10_000
_MOST_NAMED = 50_000  # groups, which every task is given
TRAIN = "train"
_FIRST = {"test": 0, "valid": 1, TRAIN: 2}
_END = 2**64  # above every hash
_SAMPLED_FILES, _SAMPLED_BYTES = 20, 2**20
_TAR_BYTES = 4096  # of a document in a tar, about: header, text and padding


@dataclass(frozen=True)
class Shares:
    """Shares of the groups in the test and in the validation part; the rest is for training."""

    test: float
    valid: float


def shares(groups: int, held_out: float | None, valid: float | None = None) -> Shares:
    """Of a corpus with so many groups. `held_out` None: as the module says; `valid` None: half of
    the test share, and at most half of what the test part leaves."""
    test = held_out
    if test is None:
        groups = max(1, groups)
        test = min(_LARGEST_SHARE, max(_SHARE, _ENOUGH / groups), _MOST / groups)
    return Shares(test, min(test / 2, (1 - test) / 2) if valid is None else valid)


def _hash(group: str) -> bytes:
    return hashlib.sha256(group.encode("utf-8", "surrogatepass")).digest()[:8]


@dataclass(frozen=True)
class Division:
    """Which groups are held out, by their hashes: test below one, valid from another on. `named`
    groups have a split by what some of their rows say."""

    test_below: int
    valid_from: int
    named: Mapping[str, str] = field(default_factory=dict)

    def split_of(self, group: str) -> str:
        if (split := self.named.get(group)) is not None:
            return split
        place = int.from_bytes(_hash(group), "big")
        return "test" if place < self.test_below else "valid" if place >= self.valid_from else TRAIN


def about(parts: Shares) -> Division:
    """Parts of about those sizes, whatever the groups are."""
    return Division(int(parts.test * _END), int((1 - parts.valid) * _END))


def exactly(groups: Iterable[str], parts: Shares) -> Division:
    """Parts of exact size of these groups: test has the lowest hashes, valid the highest.

    Where two groups or more are divided, one at least is left to train on.
    """
    ordered = sorted(int.from_bytes(_hash(g), "big") for g in {*groups})
    count = len(ordered)
    test = min(_up(parts.test * count), max(0, count - 1))
    valid = min(_up(parts.valid * count), max(0, count - test - 1))
    ordered.append(_END)
    return Division(ordered[test], ordered[count - valid])


def divide(groups: Iterable[str], parts: Shares) -> dict[str, str]:
    """Group → split, by `exactly`."""
    groups = {*groups}
    found = exactly(groups, parts)
    return {group: found.split_of(group) for group in groups}


def _up(number: float) -> int:
    return math.ceil(round(number, 6))  # 0.1 · 30 is a little more than 3


def divide_rows(
    rows: Iterable[Mapping[str, Any]],
    held_out: float | None,
    valid: float | None = None,
    more: float = 1.0,
) -> Division:
    """What gives a split to every row that names none. Rows of a group that names one follow it.

    `more`: how many rows there are for each of these; where there are more, parts have their size
    on average, and rows that come later follow their group if it is named in these.
    """
    named: dict[str, str] = {}
    silent: set[str] = set()
    for row in rows:
        split, group = row["split"], row.get("group") or ""
        if split in _FIRST:
            before = named.setdefault(group, split)
            if _FIRST[split] < _FIRST[before]:
                named[group] = split
        elif not split and not row.get("reason"):
            silent.add(group)
    groups = silent - set(named)
    if more > 1:
        some = dict(islice(named.items(), _MOST_NAMED))
        return replace(about(shares(round(more * len(groups)), held_out, valid)), named=some)
    follow = {group: named[group] for group in silent & set(named)}
    return replace(exactly(groups, shares(len(groups), held_out, valid)), named=follow)


def estimate_documents(filesystem: pafs.FileSystem, paths: Sequence[str]) -> int:
    """About how many documents text files hold: from the first megabyte of at most 20 of them."""
    infos = filesystem.get_file_info(list(paths))
    total = sum(info.size or 0 for info in infos)
    documents = read = 0.0
    for info in infos[:: -(-len(infos) // _SAMPLED_FILES)] if infos else ():
        size = info.size or 0
        try:
            found, looked_at = _estimate(filesystem, info.path, size)
        except (pa.ArrowInvalid, PermissionError):
            continue  # it has its reason when it is read
        documents, read = documents + found, read + looked_at
    return round(documents * total / read) if read else 0


def _estimate(filesystem: pafs.FileSystem, path: str, size: int) -> tuple[float, int]:
    """Documents of a file, or of its beginning, and the bytes that hold them."""
    if path.lower().endswith(".parquet"):
        return pq.read_metadata(path, filesystem=filesystem).num_rows, size
    if path.lower().endswith(".tar"):
        return size / _TAR_BYTES, size
    with filesystem.open_input_stream(path) as file:
        raw = file.read(_SAMPLED_BYTES)
    return sum(1 for line in raw.splitlines() if line.strip()), len(raw)
