"""Confidence intervals by the percentile bootstrap over examples (Efron, 1979)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from momo.evaluation.metrics import Metric


def _clusters(count: int, groups: Any | None) -> list[np.ndarray]:
    """Rows of each group, or of each example alone."""
    if groups is None:
        return [np.array([row]) for row in range(count)]
    _, inverse = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1)


def _percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check(count: int, level: float, resamples: int) -> None:
    if not count:
        raise ValueError("no examples: an interval needs at least one")
    if not 0.0 < level < 1.0 or resamples < 1:
        raise ValueError(f"level={level}, resamples={resamples}: give a level in (0, 1) and ≥ 1")


def interval_of_mean(
    scores: np.ndarray,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    groups: Any | None = None,
) -> tuple[float, float]:
    """(low, high) of the mean of `scores` [N].

    `groups` [N]: whole groups are drawn, as where several captions belong to one picture.
    """
    scores = np.asarray(scores, dtype=np.float64)
    _check(len(scores), level, resamples)
    _, sums, sizes = _sums(scores, groups)
    generator = np.random.Generator(np.random.Philox(seed))
    means = np.empty(resamples)
    for i in range(resamples):
        drawn = np.bincount(generator.integers(len(sums), size=len(sums)), minlength=len(sums))
        means[i] = (drawn @ sums) / (drawn @ sizes)
    return _percentiles(means, level)


def _sums(scores: Any, groups: Any | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which groups there are, the sum of each one's scores, and how many they are."""
    scores = np.asarray(scores, dtype=np.float64)
    names = np.arange(len(scores)) if groups is None else np.asarray(groups)
    found, inverse = np.unique(names, return_inverse=True)
    inverse = inverse.reshape(-1)
    return found, np.bincount(inverse, scores), np.bincount(inverse).astype(np.float64)


def interval_of_means(
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """(low, high) of the mean over `parts` of their mean scores.

    A part is (scores [N], groups [N]), as retrieval from pictures and from texts: a group is drawn
    in all parts at once.
    """
    for scores, _ in parts:
        _check(len(scores), level, resamples)
    known = np.unique(np.concatenate([np.asarray(groups) for _, groups in parts]))
    sums, sizes = np.zeros((2, len(parts), len(known)))
    for row, part in enumerate(parts):
        found, total, count = _sums(*part)
        places = np.searchsorted(known, found)
        sums[row, places], sizes[row, places] = total, count
    generator = np.random.Generator(np.random.Philox(seed))
    means = np.empty(resamples)
    for i in range(resamples):
        drawn = np.bincount(generator.integers(len(known), size=len(known)), minlength=len(known))
        counts = sizes @ drawn
        means[i] = np.mean((sums @ drawn)[counts > 0] / counts[counts > 0])
    return _percentiles(means, level)


def interval_of_median(
    scores: np.ndarray,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    groups: Any | None = None,
) -> tuple[float, float]:
    """(low, high) of the median of `scores` [N], the lower of two middle ones; groups as above."""
    scores = np.asarray(scores, dtype=np.float64)
    _check(len(scores), level, resamples)
    names = np.arange(len(scores)) if groups is None else np.asarray(groups)
    known, group_of = np.unique(names, return_inverse=True)
    order = np.argsort(scores, kind="stable")
    group_of, ordered = group_of.reshape(-1)[order], scores[order]
    generator = np.random.Generator(np.random.Philox(seed))
    medians = np.empty(resamples)
    for i in range(resamples):
        drawn = np.bincount(generator.integers(len(known), size=len(known)), minlength=len(known))
        before = np.cumsum(drawn[group_of])
        medians[i] = ordered[np.searchsorted(before, (before[-1] + 1) // 2)]
    return _percentiles(medians, level)


def interval(
    metric: Metric,
    predictions: Any,
    references: Any,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    groups: Any | None = None,
) -> tuple[float, float]:
    """(low, high) of `metric` over resampled examples; of `groups` [N] where given.

    Resamples on which the metric is not defined (one class under a ROC curve) are drawn again, at
    most ten times as many in all. Raises ValueError where none is defined.
    """
    predictions, references = np.asarray(predictions), np.asarray(references)
    _check(len(predictions), level, resamples)
    clusters = _clusters(len(predictions), groups)
    generator = np.random.Generator(np.random.Philox(seed))
    values: list[float] = []
    for _ in range(10 * resamples):
        drawn = generator.integers(len(clusters), size=len(clusters))
        rows = np.concatenate([clusters[i] for i in drawn]) if groups is not None else drawn
        try:
            values.append(metric(predictions[rows], references[rows]))
        except ValueError:
            continue
        if len(values) == resamples:
            break
    if not values:
        raise ValueError("the metric is defined on none of the resamples: too few examples")
    return _percentiles(np.array(values), level)
