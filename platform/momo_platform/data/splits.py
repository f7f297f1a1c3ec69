"""What a corpus holds out: rows that name no split are divided by the hash of their group.

The automatic test part is 10 % of the groups, up to 20 % of a corpus with fewer than 5,000, so that
it has 500 where it can, and 10,000 groups of a corpus with more than 100,000. The validation part
is half as large. Nothing depends on the order of rows or on the number of workers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

_SHARE, _LARGEST_SHARE = 0.10, 0.20
_ENOUGH, _MOST = 500, 10_000
_FIRST = {"test": 0, "valid": 1, "train": 2}
_SAMPLED_FILES, _SAMPLED_BYTES = 20, 2**20
_TAR_BYTES = 4096  # of a document in a tar, about: header, text and padding


@dataclass(frozen=True)
class Shares:
    """Shares of the groups in the test and in the validation part; the rest is for training."""

    test: float
    valid: float

    def split_of(self, group: str) -> str:
        """By the group's hash alone: the part's size is right on average."""
        position = int.from_bytes(_hash(group), "big") / 2**64
        return (
            "test" if position < self.test else "valid" if position >= 1 - self.valid else "train"
        )


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


def divide(groups: Iterable[str], parts: Shares) -> dict[str, str]:
    """Group → split, with parts of exact size: test has the lowest hashes, valid the highest.

    Where two groups or more are divided, one at least is left to train on.
    """
    ordered = sorted({(_hash(g), g) for g in groups})
    count = len(ordered)
    test = min(_up(parts.test * count), max(0, count - 1))
    valid = min(_up(parts.valid * count), max(0, count - test - 1))
    return {
        group: "test" if place < test else "valid" if place >= count - valid else "train"
        for place, (_, group) in enumerate(ordered)
    }


def _up(number: float) -> int:
    return math.ceil(round(number, 6))  # 0.1 · 30 is a little more than 3


def divide_rows(
    rows: Sequence[dict[str, Any]], held_out: float | None, valid: float | None = None
) -> None:
    """Give a `split` to every row that names none. Rows of a group that names one follow it."""
    named: dict[str, str] = {}
    for row in rows:
        if (split := row["split"]) in _FIRST:
            before = named.setdefault(row["group"], split)
            if _FIRST[split] < _FIRST[before]:
                named[row["group"]] = split
    open_groups = {r["group"] for r in rows if not r["split"] and not r.get("reason")} - set(named)
    found = divide(open_groups, shares(len(open_groups), held_out, valid)) | named
    for row in rows:
        row["split"] = row["split"] or found.get(row["group"], "train")


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
