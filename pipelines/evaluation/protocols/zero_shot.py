"""The class whose descriptions, over templates, are nearest to the picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipelines.evaluation.protocol import ClassPredictor, Given, Predicted

if TYPE_CHECKING:
    import numpy as np

    from pipelines.evaluation.trivial import Trivial


class ZeroShot(ClassPredictor):
    name = "zero_shot"
    embeddings, trains = True, False
    given = (Given("classes", "zero-shot", "majority"),)

    def predict(self, arrays: Mapping[str, np.ndarray], metric: str) -> Predicted | str:
        from momo.evaluation.zero_shot import classify

        if "class_embeddings" not in arrays:
            return "needs names of classes and a space of texts and pictures"
        test = arrays["split"] == "test"
        found, _ = classify(arrays["image_embeddings"][test], arrays["class_embeddings"])
        return Predicted(found)

    def baseline(self, data: Trivial) -> tuple[float | None, dict[str, float]]:
        return data.of_labels(None)
