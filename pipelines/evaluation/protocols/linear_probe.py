"""Logistic regression on frozen features; its regularisation is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.evaluation.protocol import FeatureClassifier, Given, Part, Predicted

if TYPE_CHECKING:
    from momo.evaluation.metrics import Metric


class LinearProbe(FeatureClassifier):
    name = "linear_probe"
    given = (Given("classes", "probe", "raw pixels"), Given("texts", "probe", "TF-IDF"))

    def fit(self, train: Part, valid: Part, test: Part, metric: Metric) -> Predicted:
        from momo.evaluation.probe import linear_probe

        found = linear_probe(train, valid, test, metric=metric)
        return Predicted(found.predictions, {"c": found.c, "validation": found.validation_score})
