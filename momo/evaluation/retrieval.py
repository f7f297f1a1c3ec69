"""Zero-shot retrieval between pictures and captions."""

from __future__ import annotations

import numpy as np


def recall_at(
    queries: np.ndarray,
    candidates: np.ndarray,
    query_groups: np.ndarray,
    candidate_groups: np.ndarray,
    k: int,
) -> float:
    """Share of queries [Q, E] with a candidate [C, E] of their own group among the `k` nearest.

    Equal similarities count against the query: a tie is no success.
    """
    similarity = queries @ candidates.T
    positive = query_groups[:, None] == candidate_groups[None, :]
    best = np.where(positive, similarity, -np.inf).max(axis=1)
    better = ((similarity >= best[:, None]) & ~positive).sum(axis=1)
    return float((better < k).mean())


def zero_shot_retrieval(
    images: np.ndarray,
    texts: np.ndarray,
    image_groups: np.ndarray,
    text_groups: np.ndarray,
    ks: tuple[int, ...] = (1, 5, 10),
) -> dict[str, float]:
    """`image_to_text_r@k` and `text_to_image_r@k`."""
    result = {}
    for k in ks:
        result[f"image_to_text_r@{k}"] = recall_at(images, texts, image_groups, text_groups, k)
        result[f"text_to_image_r@{k}"] = recall_at(texts, images, text_groups, image_groups, k)
    return result


def chance_recall(query_groups: np.ndarray, candidate_groups: np.ndarray, k: int) -> float:
    """Expected recall of a random ranking: 1 - C(n - p, k) / C(n, k), averaged over queries."""
    total = len(candidate_groups)
    values = []
    for group in query_groups:
        positives = int((candidate_groups == group).sum())
        miss = 1.0
        for i in range(min(k, total)):
            miss *= max(0, total - positives - i) / (total - i)
        values.append(1.0 - miss)
    return float(np.mean(values))
