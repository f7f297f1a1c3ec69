"""Retrieval, the nearest of each query ordered again by the matching head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.evaluation.configs import ProtocolConfig
from pipelines.evaluation.datasets import DataSetPlace
from pipelines.evaluation.items import Captioned
from pipelines.evaluation.protocol import Subject
from pipelines.evaluation.protocols.matching import OnPairs
from pipelines.evaluation.protocols.retrieval import ranking, retrieved
from pipelines.evaluation.results import Result

if TYPE_CHECKING:
    import numpy as np


class Reranked(OnPairs):
    name = "reranked"

    def config(self, metric: str, place: DataSetPlace, seed: int, limit: int = 0) -> ProtocolConfig:
        return ranking(super().config(metric, place, seed, limit))

    def judge(
        self, subject: Subject, items: Captioned, pixels: np.ndarray, ids: np.ndarray
    ) -> Result:
        encoder = subject.encoder
        arrays = {
            "image_embeddings": encoder.embed_pixels(pixels),
            "text_embeddings": encoder.embed_texts(items.captions),
            "image_groups": items.image_groups,
            "text_groups": items.text_groups,
        }

        def rerank(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
            return encoder.match(pixels, ids[others], picture=rows)

        return retrieved(subject.config, arrays, rerank)
