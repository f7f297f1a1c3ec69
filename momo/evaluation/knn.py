"""k nearest neighbours on frozen features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

KS = (1, 5, 10, 20, 50)


@dataclass(frozen=True)
class KNNResult:
    """Test accuracy and predictions at the `k` that was best on the validation part."""

    accuracy: float
    k: int
    validation_accuracy: float
    predictions: np.ndarray


def _unit(features: np.ndarray) -> Tensor:
    return torch.nn.functional.normalize(torch.from_numpy(np.asarray(features, np.float32)), dim=1)


def _votes(
    queries: Tensor, train: Tensor, labels: Tensor, classes: int, ks: list[int], temperature: float
) -> dict[int, np.ndarray]:
    """Predicted classes [Q] for every k."""
    found: dict[int, list[np.ndarray]] = {k: [] for k in ks}
    for part in queries.split(1024):
        similarity, rows = (part @ train.T).topk(max(ks), dim=1)
        weights = (similarity / temperature).exp()
        for k in ks:
            votes = torch.zeros(len(part), classes)
            votes.scatter_add_(1, labels[rows[:, :k]], weights[:, :k])
            found[k].append(votes.argmax(dim=1).numpy())
    return {k: np.concatenate(parts) for k, parts in found.items()}


@torch.inference_mode()
def knn(
    train: tuple[np.ndarray, np.ndarray],
    valid: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    *,
    ks: tuple[int, ...] = KS,
    temperature: float = 0.07,
) -> KNNResult:
    """Each part is (features [N, D], labels [N]); neighbours come from the training part.

    Votes of the `k` nearest by cosine, weighted by exp(cosine / temperature) as in DINO (arXiv
    2104.14294). The least `k` wins a tie on the validation part. Raises ValueError for an empty
    part.
    """
    for name, part in (("train", train), ("valid", valid), ("test", test)):
        if not len(part[0]):
            raise ValueError(f"k-NN: the {name} part is empty")
    classes, codes = np.unique(np.asarray(train[1]), return_inverse=True)
    labels, features = torch.from_numpy(codes.reshape(-1)), _unit(train[0])
    tried = sorted({min(k, len(features)) for k in ks})
    arguments = (features, labels, len(classes), tried, temperature)
    on_valid = _votes(_unit(valid[0]), *arguments)
    scores = {k: float((classes[on_valid[k]] == valid[1]).mean()) for k in tried}
    best = max(tried, key=lambda k: scores[k])
    predictions = classes[
        _votes(_unit(test[0]), features, labels, len(classes), [best], temperature)[best]
    ]
    return KNNResult(float((predictions == test[1]).mean()), best, scores[best], predictions)
