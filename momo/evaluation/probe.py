"""The linear probe: logistic regression, its regularisation chosen on a validation part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

REGULARISATION = (0.001, 0.01, 0.1, 1.0)


@dataclass(frozen=True)
class ProbeResult:
    """`accuracy` on the test part with the `c` that was best on the validation part."""

    accuracy: float
    c: float
    validation_accuracy: float


def _fit(features: np.ndarray, labels: np.ndarray, c: float) -> LogisticRegression:
    return LogisticRegression(C=c, max_iter=200, tol=1e-3).fit(features, labels)


def linear_probe(
    train: tuple[np.ndarray, np.ndarray],
    valid: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    *,
    standardise: bool = True,
) -> ProbeResult:
    """Each part is (features [N, D], labels [N]). The final fit uses train and valid together."""
    scaler = StandardScaler(with_mean=standardise, with_std=standardise).fit(train[0])
    parts = [(np.asarray(scaler.transform(x)), y) for x, y in (train, valid, test)]
    scores = {c: _fit(*parts[0], c).score(*parts[1]) for c in REGULARISATION}
    best = max(scores, key=lambda c: scores[c])
    both = (np.concatenate([parts[0][0], parts[1][0]]), np.concatenate([parts[0][1], parts[1][1]]))
    accuracy = _fit(*both, best).score(*parts[2])
    return ProbeResult(float(accuracy), best, float(scores[best]))
