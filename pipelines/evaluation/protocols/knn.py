"""The weighted vote of the nearest training examples by cosine; how many is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.evaluation.protocol import FeatureClassifier, Part, Predicted

if TYPE_CHECKING:
    from momo.evaluation.metrics import Metric


class NearestNeighbours(FeatureClassifier):
    name = "knn"

    def fit(self, train: Part, valid: Part, test: Part, metric: Metric) -> Predicted:
        from momo.evaluation.knn import knn

        found = knn(train, valid, test)
        details = {"k": float(found.k), "validation": found.validation_accuracy}
        return Predicted(found.predictions, details)
