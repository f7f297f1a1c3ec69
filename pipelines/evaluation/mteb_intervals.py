"""Intervals of mteb's scores, from what its tasks keep of each example.

Only where the mean (or the correlation) over the examples is mteb's own score is there an interval:
whatever else a task does to its score, the interval would be of another number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from momo.evaluation.bootstrap import interval, interval_of_mean, interval_of_means
from momo.evaluation.metrics import METRICS

_CLOSE = 2e-4  # mteb rounds
_RANKED = re.compile(r"(ndcg|mrr|recall|cv_recall|hit_rate|map)_at_(\d+)")
Interval = tuple[float, float] | None
Documents = Mapping[str, float]


def examples_of(
    task: Any, predictions: Mapping[str, Any], score: float, seed: int
) -> tuple[int, Interval]:
    """How many test examples there are, and the 95 % interval of `score`; None where there is no
    figure for each example, or where `score` is not their mean.

    `predictions`: what mteb wrote, {subset: {split: …}}.
    """
    parts = [
        (predictions[subset][split], _data(task, subset, split))
        for subset in predictions
        if subset != "mteb_model_meta"
        for split in predictions[subset]
    ]
    scored = [_scores(task, found, data) for found, data in parts]
    known = [one for one in scored if one is not None and len(one)]
    if parts and len(known) == len(parts):
        return sum(map(len, known)), _of_means(known, score, seed)
    if len(parts) == 1:
        return _count(task), _of_correlation(task, *parts[0], score, seed)
    return _count(task), None


def _of_means(parts: Sequence[np.ndarray], score: float, seed: int) -> Interval:
    if abs(np.mean([part.mean() for part in parts]) - score) > _CLOSE:
        return None
    if len(parts) == 1:
        return interval_of_mean(parts[0], seed=seed)
    starts = np.cumsum([0, *map(len, parts)])
    groups = [np.arange(len(part)) + start for part, start in zip(parts, starts, strict=False)]
    return interval_of_means(list(zip(parts, groups, strict=True)), seed=seed)


def _of_correlation(task: Any, found: Any, data: Any, score: float, seed: int) -> Interval:
    """Of similarities of pairs, as `cosine_spearman`."""
    kind, _, name = task.metadata.main_score.rpartition("_")
    keys = {"cosine": "cosine_scores", "": "similarity_scores"}
    if name not in ("spearman", "pearson") or kind not in keys or not isinstance(found, Mapping):
        return None
    ours, theirs = found.get(keys[kind]), list(data["score"])
    if ours is None or len(ours) != len(theirs) or len(ours) < 2:
        return None
    metric = METRICS[name]
    if abs(metric(ours, theirs) - score) > _CLOSE:
        return None
    return interval(metric, np.asarray(ours), np.asarray(theirs), seed=seed)


def _scores(task: Any, found: Any, data: Any) -> np.ndarray | None:
    """A figure for each example, by the task's main score; None where it has none."""
    main = task.metadata.main_score
    if (ranked := _RANKED.fullmatch(main)) and isinstance(found, Mapping):
        judged = data["relevant_docs"]
        measure, k = ranked[1], int(ranked[2])
        queries = [q for q in found if q in judged and any(judged[q].values())]
        return np.array([_of_query(measure, found[q], judged[q], k) for q in queries])
    if main == "accuracy" and isinstance(found, list) and found:
        return _right(task, found, data)
    return None


def _right(task: Any, found: list[Any], data: Any) -> np.ndarray | None:
    """How often each example got its own class: over a classifier's experiments, or by the
    probabilities of a zero-shot task."""
    column = getattr(task, "label_column_name", "label")
    if not hasattr(data, "column_names") or column not in data.column_names:
        return None
    labels, guesses = np.asarray(data[column]), np.asarray(found)
    if guesses.ndim != 2:
        return None
    if guesses.shape[1] == len(labels) and hasattr(task, "n_experiments"):
        return (guesses == labels).mean(axis=0)
    if guesses.shape[0] == len(labels) and labels.dtype.kind in "iu":
        return (guesses.argmax(axis=1) == labels).astype(np.float64)
    return None


def _of_query(measure: str, found: Documents, judged: Mapping[str, int], k: int) -> float:
    """A query's own figure, as trec_eval defines it: `found` are scores by document."""
    order = sorted(found, key=lambda document: (found[document], document), reverse=True)[:k]
    gains = [judged.get(document, 0) for document in order]
    hits = [gain > 0 for gain in gains]
    relevant = sum(gain > 0 for gain in judged.values())
    if measure == "ndcg":
        best = sorted(judged.values(), reverse=True)[:k]
        return _discounted(gains) / _discounted(best)
    if measure == "recall":
        return sum(hits) / relevant
    if measure == "mrr":
        return next((1 / rank for rank, hit in enumerate(hits, 1) if hit), 0.0)
    if measure == "map":
        precisions = [sum(hits[:rank]) / rank for rank, hit in enumerate(hits, 1) if hit]
        return sum(precisions) / relevant
    return float(any(hits))


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def _data(task: Any, subset: str, split: str) -> Any:
    """A part of the task's data, however it keeps its subsets; {} where it is not found."""
    found = task.dataset or {}
    for name in (subset, split):
        if hasattr(found, "keys") and name in found:
            found = found[name]
    return found


def _count(task: Any) -> int:
    return sum(_sizes(task.dataset or {}, set(task.eval_splits)))


def _sizes(data: Any, splits: set[str]) -> Iterator[int]:
    for name, part in data.items():
        if name not in splits and hasattr(part, "items"):
            yield from _sizes(part, splits)
        elif name in splits:
            queries = part.get("queries") if hasattr(part, "get") else None
            yield len(part if queries is None else queries)
