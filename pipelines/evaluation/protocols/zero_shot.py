"""The class whose descriptions, over templates, are nearest to the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.evaluation.protocol import Arrays, Baseline, ClassPredictor, Given, Predicted

if TYPE_CHECKING:
    from momo.evaluation.metrics import Metric
    from pipelines.evaluation.trivial import Trivial


class ZeroShot(ClassPredictor):
    name = "zero_shot"
    embeddings, trains = True, False
    given = (Given("classes", "zero-shot", "majority"),)

    def predict(self, arrays: Arrays, metric: Metric) -> Predicted | str:
        from momo.evaluation.zero_shot import classify

        if "class_embeddings" not in arrays:
            return "needs names of classes and a space of texts and pictures"
        test = arrays["split"] == "test"
        found, _ = classify(arrays["image_embeddings"][test], arrays["class_embeddings"])
        return Predicted(found)

    def baseline(self, data: Trivial) -> Baseline:
        return data.of_labels(None)
