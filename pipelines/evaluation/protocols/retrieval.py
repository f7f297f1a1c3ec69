"""Pictures by texts and texts by pictures: R@k, mean reciprocal and median rank, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pipelines.evaluation.datasets import Place
from pipelines.evaluation.protocol import Given, OnFeatures, ProtocolConfig, Result

if TYPE_CHECKING:
    import numpy as np

_KS = (1, 5, 10)


def ranking(config: ProtocolConfig) -> ProtocolConfig:
    """Of one that gives all numbers of a ranking, whichever a task reads: tasks share its stage.
    One of them being R@k, the k are the benchmarks'."""
    return replace(config, metric="", ks=_KS if "_r@" in config.metric else ())


class Retrieval(OnFeatures):
    name = "retrieval"
    metric = "mrr"
    embeddings, trains = True, False
    given = (Given("pairs", "retrieval", "chance"),)

    def config(self, metric: str, place: Place, seed: int, limit: int = 0) -> ProtocolConfig:
        return ranking(super().config(metric, place, seed, limit))

    def measure(self, config: ProtocolConfig, arrays: Mapping[str, np.ndarray]) -> Result:
        from pipelines.evaluation.results import retrieved

        return retrieved(config, arrays)
