"""Retrieval, the nearest of each query ordered again by the matching head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.evaluation.datasets import Place
from pipelines.evaluation.protocol import ProtocolConfig, Result
from pipelines.evaluation.protocols.matching import OnPairs
from pipelines.evaluation.protocols.retrieval import ranking

if TYPE_CHECKING:
    import numpy as np

    from momo.evaluation.encoder import Encoder
    from pipelines.evaluation.items import Captioned


class Reranked(OnPairs):
    name = "reranked"

    def config(self, metric: str, place: Place, seed: int, limit: int = 0) -> ProtocolConfig:
        return ranking(super().config(metric, place, seed, limit))

    def judge(
        self,
        config: ProtocolConfig,
        encoder: Encoder,
        items: Captioned,
        pixels: np.ndarray,
        ids: np.ndarray,
    ) -> Result:
        from pipelines.evaluation.results import retrieved

        arrays = {
            "image_embeddings": encoder.embed_pixels(pixels),
            "text_embeddings": encoder.embed_texts(items.captions),
            "image_groups": items.image_groups,
            "text_groups": items.text_groups,
        }

        def rerank(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
            return encoder.match(pixels, ids[others], picture=rows)

        return retrieved(config, arrays, rerank)
