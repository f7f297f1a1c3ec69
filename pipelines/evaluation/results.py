"""What a protocol found → the result that a stage returns. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from momo.evaluation.bootstrap import (
    interval,
    interval_of_mean,
    interval_of_means,
    interval_of_median,
)
from momo.evaluation.chance import chance_recall, chance_reciprocal_rank, fitting_ks
from momo.evaluation.diagnostics import alignment, effective_rank, modality_gap, uniformity
from momo.evaluation.metrics import metric_named, soft_vqa_scores
from momo.evaluation.retrieval import Rerank, places, reciprocal_ranks, zero_shot_retrieval
from pipelines.evaluation.protocol import ProtocolConfig, Result

Value = dict[str, float | None]
_RERANKED = 16  # of a query's nearest


def value_of(
    value: float, bounds: tuple[float, float], chance: float | None = None
) -> dict[str, float | None]:
    """A measured value with its interval and what a guess reaches."""
    return {"value": float(value), "low": bounds[0], "high": bounds[1], "chance": chance}


def scored(
    config: ProtocolConfig,
    predictions: Any,
    truth: Any,
    groups: np.ndarray | None = None,
    chance: float | None = None,
) -> Value:
    """The metric with its interval; by the mean of scores where it is one."""
    if config.metric in ("accuracy", "vqa_accuracy"):
        if config.metric == "accuracy":
            scores = np.asarray(predictions) == np.asarray(truth)
        else:
            scores = soft_vqa_scores(predictions, truth)
        bounds = interval_of_mean(scores, groups=groups, seed=config.seed)
        return value_of(float(np.mean(scores)), bounds, chance)
    metric = metric_named(config.metric)
    bounds = interval(metric, predictions, truth, groups=groups, seed=config.seed)
    return value_of(metric(predictions, truth), bounds, chance)


def result_of(
    config: ProtocolConfig, value: Value, count: int, details: Mapping[str, Any]
) -> Result:
    """`count`: test examples that the value is over."""
    return {
        "values": {config.metric: value},
        "n": count,
        "details": dict(details),
        **settings_of(config),
    }


def settings_of(config: ProtocolConfig) -> dict[str, int]:
    """What else a value depends on."""
    return {"seed": config.seed, "limit": config.limit}


def first_captions(
    image_groups: np.ndarray, text_groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the pictures that have a caption, and of the first caption of each: int64 [M]."""
    row_of: dict[Any, int] = {}
    for row, group in enumerate(text_groups.tolist()):
        row_of.setdefault(group, row)
    own = [(i, row_of[g]) for i, g in enumerate(image_groups.tolist()) if g in row_of]
    rows, captions = zip(*own, strict=True)
    return np.array(rows), np.array(captions)


def retrieved(
    config: ProtocolConfig, arrays: Mapping[str, np.ndarray], rerank: Rerank | None = None
) -> Result:
    """Both ways R@k, the mean reciprocal rank and the median rank; `mrr`, the mean of both
    directions. Whole groups are drawn for the intervals; n is how many there are."""
    images, texts = arrays["image_embeddings"], arrays["text_embeddings"]
    both = arrays["image_groups"], arrays["text_groups"]
    found = zero_shot_retrieval(images, texts, *both, (), rerank=rerank, rerank_top=_RERANKED)
    ks = config.ks or fitting_ks(*both)
    values: dict[str, Value] = {}
    parts, guesses = [], []
    for direction, ranks, own, others in (
        ("image_to_text", found.image_ranks, both[0], both[1]),
        ("text_to_image", found.text_ranks, both[1], both[0]),
    ):
        seeded: dict[str, Any] = {"groups": own, "seed": config.seed}
        for k in ks:
            hits = (ranks >= 0) & (ranks < k)
            bounds = interval_of_mean(hits, **seeded)
            values[f"{direction}_r@{k}"] = value_of(
                float(hits.mean()), bounds, chance_recall(own, others, k)
            )
        inverse, guess = reciprocal_ranks(ranks), chance_reciprocal_rank(own, others)
        bounds = interval_of_mean(inverse, **seeded)
        values[f"{direction}_mrr"] = value_of(float(inverse.mean()), bounds, guess)
        place = places(ranks, len(others))
        middle = float(np.quantile(place, 0.5, method="inverted_cdf"))
        bounds = interval_of_median(place, **seeded)
        values[f"{direction}_median_rank"] = value_of(middle, bounds, (len(others) + 1) / 2)
        parts.append((inverse, own))
        guesses.append(guess)
    mean = float(np.mean([scores.mean() for scores, _ in parts]))
    bounds = interval_of_means(parts, seed=config.seed)
    values["mrr"] = value_of(mean, bounds, float(np.mean(guesses)))
    rows, captions = first_captions(*both)
    details = {
        "alignment": alignment(images[rows], texts[captions]),
        "uniformity_images": uniformity(images) if len(images) > 1 else None,
        "uniformity_texts": uniformity(texts) if len(texts) > 1 else None,
        "modality_gap": modality_gap(images, texts),
        "effective_rank_images": effective_rank(images) if len(images) > 1 else None,
    }
    count = len(np.unique(both[0]))
    return {"values": values, "n": count, "details": details, **settings_of(config)}
