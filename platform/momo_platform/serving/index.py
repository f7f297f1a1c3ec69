"""The search index: unit vectors and what they stand for, in a folder of plain files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from momo_platform.serving.stored_vectors import (
    ExactVectors,
    Int8Vectors,
    StoredVectors,
    read_graph,
    write_graph,
)

VECTORS, ENTRIES, FACTS = "vectors.npy", "entries.jsonl", "index.json"
RANGES = "ranges.npy"


@dataclass(frozen=True)
class Index:
    """`vectors` [N], `entries` [N]: JSON objects with a `caption`, and a `thumbnail` (data URI)
    where there is one; `model` made them, computing in `precision` (empty: not recorded). `width`:
    E, 0 where nobody told."""

    vectors: StoredVectors
    entries: list[dict[str, Any]]
    model: str
    precision: str = ""
    width: int = 0

    def search(self, query: np.ndarray, k: int) -> list[tuple[float, dict[str, Any]]]:
        """The `k` nearest of one vector [E], best first; ties by place."""
        return [(score, self.entries[place]) for score, place in self.vectors.search(query, k)]


def write_index(
    folder: Path,
    vectors: np.ndarray,
    entries: list[dict[str, Any]],
    model: str,
    precision: str = "",
    *,
    ranges: np.ndarray | None = None,
    graph: bool = False,
) -> None:
    """`vectors` float32 [N, E] of length 1, or with `ranges` float32 [2, E] their int8 codes, of
    which number = code * ranges[0] + ranges[1]. `graph`: one of usearch's beside them.

    Raises ValueError where vectors and entries are not as many, ImportError for a graph without
    the package.
    """
    if len(vectors) != len(entries):
        raise ValueError(f"{len(vectors)} vectors, {len(entries)} entries: give as many")
    folder.mkdir(parents=True, exist_ok=True)
    kind = np.float32 if ranges is None else np.int8
    np.save(folder / VECTORS, np.asarray(vectors, dtype=kind), allow_pickle=False)
    stored = "float32"
    if ranges is not None:
        stored = "int8"
        np.save(folder / RANGES, np.asarray(ranges, dtype=np.float32), allow_pickle=False)
    if graph:
        stored = "usearch"
        write_graph(folder, np.asarray(vectors, dtype=np.float32))
    facts = {"model": model, "precision": precision, "vectors": stored}
    (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    (folder / ENTRIES).write_text(lines, encoding="utf-8")


def read_index(folder: str | Path) -> Index:
    """Raises ValueError for a folder that holds none, or a broken one, and for a graph without the
    package that reads it."""
    path = Path(folder)
    try:
        vectors = np.load(path / VECTORS, mmap_mode="r", allow_pickle=False)
        text = (path / ENTRIES).read_text(encoding="utf-8")
        # By "\n" only: captions hold other characters that `splitlines` breaks lines at.
        entries = [json.loads(line) for line in text.split("\n") if line]
        facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
        model, precision = str(facts["model"]), str(facts.get("precision", ""))
        stored = _stored(path, vectors, str(facts.get("vectors", "float32")))
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise ValueError(
            f"{path} holds no index ({error}); make one with the index stage"
        ) from error
    if vectors.ndim != 2 or len(vectors) != len(entries):
        raise ValueError(f"{path}: {vectors.shape} vectors for {len(entries)} entries")
    return Index(stored, entries, model, precision, vectors.shape[1])


def _stored(path: Path, vectors: np.ndarray, kind: str) -> StoredVectors:
    if kind == "float32":
        return ExactVectors(vectors)
    if kind == "int8":
        step, middle = np.load(path / RANGES, allow_pickle=False)
        return Int8Vectors(vectors, step, middle)
    if kind == "usearch":
        return read_graph(path, vectors)
    raise ValueError(f"its vectors are {kind!r}, which this version does not know")
