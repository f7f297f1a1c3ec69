"""Vectors of an index as they are stored, and how the nearest of a query are found among them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

GRAPH = "graph.usearch"
_BLOCK = 65_536
_CANDIDATES = 8
"""Of a graph, so many times as many entries as are asked for are scored exactly, and 100 more."""


class StoredVectors(Protocol):
    """Unit vectors of one width E."""

    def __len__(self) -> int: ...

    def search(self, query: np.ndarray, k: int) -> list[tuple[float, int]]:
        """Cosine and place of the `k` nearest of one unit vector [E], best first; ties by place."""
        ...


def _best(count: int, k: int, scores_of: Callable[[slice], np.ndarray]) -> list[tuple[float, int]]:
    """By blocks of `count` rows, so that memory does not grow with them."""
    best: list[tuple[float, int]] = []
    for start in range(0, count, _BLOCK):
        scores = scores_of(slice(start, start + _BLOCK))
        top = np.argsort(-scores, kind="stable")[:k]
        best += [(float(scores[i]), start + int(i)) for i in top]
    best.sort(key=lambda pair: (-pair[0], pair[1]))
    return best[:k]


@dataclass(frozen=True)
class ExactVectors:
    """float32 [N, E], memory-mapped; every one is looked at."""

    vectors: np.ndarray

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, query: np.ndarray, k: int) -> list[tuple[float, int]]:
        """As `StoredVectors`, exactly."""
        return _best(len(self), k, lambda rows: self.vectors[rows] @ query)


@dataclass(frozen=True)
class Int8Vectors:
    """int8 [N, E], memory-mapped: number = code * `step` + `middle`, float32 [E] each. Every one is
    looked at; the query keeps its precision."""

    codes: np.ndarray
    step: np.ndarray
    middle: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def search(self, query: np.ndarray, k: int) -> list[tuple[float, int]]:
        """As `StoredVectors`; cosines to the precision of the codes."""
        scaled, shift = query * self.step, float(query @ self.middle)

        def scores(rows: slice) -> np.ndarray:
            return self.codes[rows].astype(np.float32) @ scaled + shift

        return _best(len(self), k, scores)


@dataclass(frozen=True)
class GraphVectors:
    """A graph of usearch's, which names candidates, and the vectors, which order them: float32
    [N, E], both memory-mapped."""

    graph: Any
    vectors: np.ndarray

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, query: np.ndarray, k: int) -> list[tuple[float, int]]:
        """As `StoredVectors`; cosines are exact, and now and then a near one is missed."""
        if not len(self):
            return []
        wanted = min(len(self), _CANDIDATES * k + 100)
        found = self.graph.search(np.asarray(query, dtype=np.float32), wanted)
        places = np.sort(np.asarray(found.keys, dtype=np.int64))
        scores = self.vectors[places] @ query
        top = np.argsort(-scores, kind="stable")[:k]
        return [(float(scores[i]), int(places[i])) for i in top]


def _usearch() -> Any:
    """Raises ImportError that says what to install."""
    try:
        return importlib.import_module("usearch.index").Index  # of an extra
    except ImportError as error:
        raise ImportError(
            "a graph of vectors needs the package usearch, which is not installed: pip install "
            "usearch"
        ) from error


def write_graph(folder: Path, vectors: np.ndarray) -> None:
    """Build the graph of float32 [N, E] and write it beside them. Raises ImportError without the
    package."""
    graph = _usearch()(ndim=vectors.shape[1], metric="ip", dtype="f16")
    if len(vectors):
        graph.add(np.arange(len(vectors)), vectors)
    graph.save(str(folder / GRAPH))


def read_graph(folder: Path, vectors: np.ndarray) -> GraphVectors:
    """What `write_graph` wrote, with its `vectors`. Raises ImportError without the package,
    ValueError where they are not as many."""
    graph = _usearch().restore(str(folder / GRAPH), view=True)
    if graph is None or len(graph) != len(vectors):
        raise ValueError(f"{folder / GRAPH} is not the graph of its {len(vectors)} vectors")
    return GraphVectors(graph, vectors)
