"""What a guess reaches: by metric and number of classes, and of rankings at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import gammaln

Groups = Sequence[object] | np.ndarray
_OF_CLASSES = ("accuracy", "mean_per_class_accuracy")
_FIXED = {
    "roc_auc": 0.5,
    "matthews": 0.0,
    "pearson": 0.0,
    "spearman": 0.0,
    "pearson_spearman": 0.0,
}


def chance(metric: str, classes: int) -> float | None:
    """Expected value of a guess, each of `classes` equally often; None where it is not defined."""
    if metric in _OF_CLASSES and classes > 1:
        return 1.0 / classes
    return _FIXED.get(metric)


def _own_and_total(query_groups: Groups, candidate_groups: Groups) -> tuple[np.ndarray, int]:
    """How many candidates each query has of its own, float64 [Q], and how many there are."""
    both = np.concatenate([np.asarray(query_groups), np.asarray(candidate_groups)])
    codes = np.unique(both, return_inverse=True)[1].reshape(-1)
    queries, candidates = codes[: len(query_groups)], codes[len(query_groups) :]
    sizes = np.bincount(candidates, minlength=int(queries.max(initial=0)) + 1)
    return sizes[queries].astype(np.float64), len(candidates)


def _log_choose(n: np.ndarray | float, k: np.ndarray | float) -> np.ndarray:
    return gammaln(np.add(n, 1.0)) - gammaln(np.add(k, 1.0)) - gammaln(np.subtract(n, k) + 1.0)


def chance_recall(query_groups: Groups, candidate_groups: Groups, k: int) -> float:
    """Expected recall of a random ranking: 1 - C(n - p, k) / C(n, k), averaged over queries that
    have p own ones among n candidates."""
    own, total = _own_and_total(query_groups, candidate_groups)
    drawn = min(k, total)
    possible = total - own >= drawn
    rest = np.where(possible, total - own, drawn)
    miss = np.exp(_log_choose(rest, drawn) - _log_choose(float(total), drawn))
    return float(np.mean(1.0 - np.where(possible, miss, 0.0)))


def chance_reciprocal_rank(query_groups: Groups, candidate_groups: Groups) -> float:
    """Expected 1 / rank of the best own candidate in a random ranking: the sum over places r of
    C(n - r, p - 1) / C(n, p) / r, averaged over queries; 0 for one without any of its own."""
    own, total = _own_and_total(query_groups, candidate_groups)
    places = np.arange(1, total + 1, dtype=np.float64)
    expected = {0.0: 0.0}
    for p in np.unique(own[own > 0]):
        possible = places[: total - int(p) + 1]
        share = np.exp(_log_choose(total - possible, p - 1) - _log_choose(float(total), p))
        expected[float(p)] = float((share / possible).sum())
    return float(np.mean([expected[float(p)] for p in own]))


def fitting_ks(
    image_groups: Groups,
    text_groups: Groups,
    ks: Sequence[int] = (1, 5, 10),
    most: float = 0.1,
) -> tuple[int, ...]:
    """Those k at which a random ranking's recall is at most `most` both ways, and the least always:
    among 11 pairs R@10 would be 0.91 by chance, and only R@1 says something."""
    both = ((image_groups, text_groups), (text_groups, image_groups))
    limit = most + 1e-9
    return tuple(
        k
        for place, k in enumerate(sorted(ks))
        if not place or all(chance_recall(*groups, k) <= limit for groups in both)
    )
