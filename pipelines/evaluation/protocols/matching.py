"""Whether the matching head tells true pairs from false ones."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from pipelines.evaluation.items import Captioned, Usable, limited
from pipelines.evaluation.protocol import OnModel, Subject
from pipelines.evaluation.results import Result, first_captions, result_of, scored

if TYPE_CHECKING:
    import numpy as np


class OnPairs(OnModel):
    """Reads held-out pictures with the matching head beside their captions."""

    trains = False

    def needs(self, items: Usable) -> tuple[str, ...]:
        return ("aligned", "matching")

    def measure(self, subject: Subject) -> Result:
        import numpy as np

        config, encoder, items = subject.config, subject.encoder, subject.items
        assert isinstance(items, Captioned)
        items = limited(items, config.limit)
        if len(np.unique(items.image_groups)) < 2:
            return {"not_available": "needs at least two held-out pairs"}
        rows = range(len(items.pictures))
        pixels = items.pictures.pixels(rows, encoder.image_size, config.threads)
        ids = encoder.tokenize(items.captions, length=encoder.caption_length)
        return self.judge(subject, items, pixels, ids)

    @abstractmethod
    def judge(
        self, subject: Subject, items: Captioned, pixels: np.ndarray, ids: np.ndarray
    ) -> Result:
        """`pixels` uint8 [N, 3, H, W] of the pictures, `ids` int64 [M, T] of the captions."""


class MatchingAccuracy(OnPairs):
    name = "matching"

    def chance(self, metric: str, classes: int) -> float | None:
        return 0.5  # as many false pairs as true ones

    def judge(
        self, subject: Subject, items: Captioned, pixels: np.ndarray, ids: np.ndarray
    ) -> Result:
        import numpy as np

        from momo.evaluation.heads import matching_scores
        from momo.evaluation.metrics import metric_named

        config, encoder = subject.config, subject.encoder
        shown, own = first_captions(items.image_groups, items.text_groups)
        groups = items.image_groups[shown]
        scores, truth = matching_scores(encoder, pixels[shown], ids[own], groups, config.seed)
        both, guess = np.concatenate([groups, groups]), self.chance(config.metric, 2)
        value = scored(config, scores > 0, truth, both, guess)
        details = {"roc_auc": metric_named("roc_auc")(scores, truth)}
        return result_of(config, value, len(np.unique(groups)), details)
