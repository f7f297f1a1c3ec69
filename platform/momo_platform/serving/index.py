"""The search index: unit vectors and what they stand for, in a folder of plain files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

VECTORS, ENTRIES, FACTS = "vectors.npy", "entries.jsonl", "index.json"
_BLOCK = 65_536


@dataclass(frozen=True)
class Index:
    """`vectors` float32 [N, E] of length 1 (memory-mapped), `entries` [N]: JSON objects with a
    `caption`, and a `thumbnail` (data URI) where there is one; `model` made them. Exact search by
    blocks."""

    vectors: np.ndarray
    entries: list[dict[str, Any]]
    model: str

    def search(self, query: np.ndarray, k: int) -> list[tuple[float, dict[str, Any]]]:
        """The `k` nearest of one vector [E], best first; ties by place."""
        best: list[tuple[float, int]] = []
        for start in range(0, len(self.vectors), _BLOCK):
            scores = self.vectors[start : start + _BLOCK] @ query
            top = np.argsort(-scores, kind="stable")[:k]
            best += [(float(scores[i]), start + int(i)) for i in top]
        best.sort(key=lambda pair: (-pair[0], pair[1]))
        return [(score, self.entries[place]) for score, place in best[:k]]


def write_index(
    folder: Path, vectors: np.ndarray, entries: list[dict[str, Any]], model: str
) -> None:
    """Raises ValueError where they are not as many."""
    if len(vectors) != len(entries):
        raise ValueError(f"{len(vectors)} vectors, {len(entries)} entries: give as many")
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / VECTORS, np.asarray(vectors, dtype=np.float32), allow_pickle=False)
    (folder / FACTS).write_text(json.dumps({"model": model}), encoding="utf-8")
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    (folder / ENTRIES).write_text(lines, encoding="utf-8")


def read_index(folder: str | Path) -> Index:
    """Raises ValueError for a folder that holds none, or a broken one."""
    path = Path(folder)
    try:
        vectors = np.load(path / VECTORS, mmap_mode="r", allow_pickle=False)
        text = (path / ENTRIES).read_text(encoding="utf-8")
        entries = [json.loads(line) for line in text.splitlines()]
        model = str(json.loads((path / FACTS).read_text(encoding="utf-8"))["model"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} holds no index ({error}); make one with the index stage"
        ) from error
    if vectors.ndim != 2 or len(vectors) != len(entries):
        raise ValueError(f"{path}: {vectors.shape} vectors for {len(entries)} entries")
    return Index(vectors, entries, model)
