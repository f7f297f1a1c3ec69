"""Pictures by texts and texts by pictures: R@k, mean reciprocal and median rank, both ways."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipelines.evaluation.configs import ProtocolConfig
from pipelines.evaluation.datasets import DataSetPlace
from pipelines.evaluation.protocol import Arrays, Given, OnFeatures
from pipelines.evaluation.results import Result, Value, first_captions, settings_of, value_of

if TYPE_CHECKING:
    from momo.evaluation.retrieval import Rerank

_KS = (1, 5, 10)
_RERANKED = 16  # of a query's nearest


class Retrieval(OnFeatures):
    name = "retrieval"
    metric = "mrr"
    embeddings, trains = True, False
    given = (Given("pairs", "retrieval", "chance"),)

    def config(self, metric: str, place: DataSetPlace, seed: int, limit: int = 0) -> ProtocolConfig:
        return ranking(super().config(metric, place, seed, limit))

    def measure(self, config: ProtocolConfig, arrays: Arrays) -> Result:
        return retrieved(config, arrays)


def ranking(config: ProtocolConfig) -> ProtocolConfig:
    """Of one that gives all numbers of a ranking, whichever a task reads: tasks share its stage.
    One of them being R@k, the k are the benchmarks'."""
    return replace(config, metric="", ks=_KS if "_r@" in config.metric else ())


def retrieved(config: ProtocolConfig, arrays: Arrays, rerank: Rerank | None = None) -> Result:
    """Both ways R@k, the mean reciprocal rank and the median rank; `mrr`, the mean of both
    directions. Whole groups are drawn for the intervals; n is how many there are."""
    import numpy as np

    from momo.evaluation.bootstrap import interval_of_mean, interval_of_means, interval_of_median
    from momo.evaluation.chance import chance_recall, chance_reciprocal_rank, fitting_ks
    from momo.evaluation.diagnostics import alignment, effective_rank, modality_gap, uniformity
    from momo.evaluation.retrieval import places, reciprocal_ranks, zero_shot_retrieval

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
