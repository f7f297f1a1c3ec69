"""The linear probe: logistic regression, its regularisation chosen on a validation part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from momo.evaluation.metrics import Metric, accuracy

REGULARISATION = (0.001, 0.01, 0.1, 1.0)
Part = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class ProbeResult:
    """`score` on the test part by the metric asked for, with the `c` that was best on the
    validation part; `predictions` [N] on the test part."""

    score: float
    c: float
    validation_score: float
    predictions: np.ndarray


def _fitted(part: Part, c: float, start: LogisticRegression | None = None) -> LogisticRegression:
    """L-BFGS, from the coefficients of `start` where given."""
    model = LogisticRegression(C=c, max_iter=200, tol=1e-3, warm_start=start is not None)
    if start is not None:
        model.coef_, model.intercept_ = np.array(start.coef_), np.array(start.intercept_)
        model.classes_ = start.classes_
    return model.fit(*part)


def linear_probe(
    train: Part,
    valid: Part,
    test: Part,
    *,
    standardise: bool = True,
    metric: Metric = accuracy,
) -> ProbeResult:
    """Each part is (features [N, D], labels [N]). The final fit uses train and valid together.

    The regularisation path goes from strong to weak, each fit from the one before. Features stay
    float32. Raises ValueError for an empty part and for one class in training.
    """
    for name, part in (("train", train), ("valid", valid), ("test", test)):
        if not len(part[0]):
            raise ValueError(f"linear probe: the {name} part is empty")
    if len(np.unique(train[1])) < 2:
        raise ValueError("linear probe: the training part has one class, give at least two")
    scaler = StandardScaler(with_mean=standardise, with_std=standardise).fit(train[0])
    parts = [(np.asarray(scaler.transform(x)), y) for x, y in (train, valid, test)]
    fits: dict[float, LogisticRegression] = {}
    scores: dict[float, float] = {}
    previous = None
    for c in REGULARISATION:
        previous = fits[c] = _fitted(parts[0], c, previous)
        scores[c] = metric(np.asarray(previous.predict(parts[1][0])), parts[1][1])
    best = max(scores, key=lambda c: scores[c])
    both = (np.concatenate([parts[0][0], parts[1][0]]), np.concatenate([parts[0][1], parts[1][1]]))
    same_classes = np.array_equal(np.unique(both[1]), fits[best].classes_)
    final = _fitted(both, best, fits[best] if same_classes else None)
    predictions = np.asarray(final.predict(parts[2][0]))
    return ProbeResult(metric(predictions, parts[2][1]), best, scores[best], predictions)
