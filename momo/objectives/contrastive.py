"""Contrastive learning (CLIP, arXiv 2103.00020): a picture's own text among those of all pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from momo.objectives.base import Objective
from momo.passes import Apart

if TYPE_CHECKING:
    from torch import Tensor

    from momo.config import ModelConfig
    from momo.losses import Loss
    from momo.views import PairViews


class Contrastive(Objective):
    name = "contrastive"
    modality = "pair"
    title = "pictures against captions (contrastive)"
    reads = (Apart(),)
    parts = ("contrastive",)
    compares = True

    def loss(self, views: PairViews) -> Loss:
        from momo.losses import contrastive_loss

        image, text = views.embeddings
        return contrastive_loss(
            *(image, text, views.log_scale, views.keys),
            gather=not views.alone,
            rows_of_ranks=views.rows_of_ranks,
            prefixes=views.config.contrastive_prefixes,
        )

    def exchanged_bytes(self, model: ModelConfig, rows: int) -> float:
        """Both modalities' features go out, and their gradients come back."""
        return 2 * 2 * 4 * rows * model.embed_dim

    def rows(self, views: PairViews) -> Mapping[str, Tensor]:
        """Unit vectors `image` and `text` [B, E], `keys` [B, K]."""
        image, text = views.embeddings
        return {"image": image.detach(), "text": text.detach(), "keys": views.keys}

    def measure(self, rows: Mapping[str, Tensor]) -> dict[str, float]:
        """How well each picture finds its text among all rows, and the reverse."""
        from momo.retrieval import retrieval

        found = retrieval(rows["image"], rows["text"], rows["keys"])
        return {f"retrieval/{name}": value for name, value in found.items()}


OBJECTIVE = Contrastive()
