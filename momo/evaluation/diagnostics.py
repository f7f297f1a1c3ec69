"""What features look like, without labels: alignment, uniformity, modality gap, effective rank."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import pdist


def alignment(first: np.ndarray, second: np.ndarray) -> float:
    """Mean squared distance between the unit vectors [N, E] of true pairs; less is nearer (Wang
    and Isola, arXiv 2005.10242)."""
    if first.shape != second.shape or not len(first):
        raise ValueError(f"alignment: shapes {first.shape} and {second.shape}, give equal ones")
    return float(np.square(first.astype(np.float64) - second).sum(axis=1).mean())


def uniformity(vectors: np.ndarray, *, t: float = 2.0, most: int = 4096, seed: int = 0) -> float:
    """Log of the mean Gaussian potential exp(-t·d²) over pairs of unit vectors [N, E]; less is more
    evenly spread (same paper). Above `most` vectors, so many are drawn."""
    if len(vectors) < 2:
        raise ValueError("uniformity needs at least two vectors")
    if len(vectors) > most:
        generator = np.random.Generator(np.random.Philox(seed))
        vectors = vectors[generator.choice(len(vectors), most, replace=False)]
    squared = pdist(vectors.astype(np.float64), "sqeuclidean")
    return float(np.log(np.exp(-t * squared).mean()))


def modality_gap(images: np.ndarray, texts: np.ndarray) -> float:
    """Distance between the means of both modalities' unit vectors (Liang et al., arXiv
    2203.02053)."""
    if not len(images) or not len(texts):
        raise ValueError("modality_gap needs vectors of both modalities")
    means = (v.astype(np.float64).mean(axis=0) for v in (images, texts))
    first, second = means
    return float(np.linalg.norm(first - second))


def effective_rank(features: np.ndarray) -> float:
    """exp of the entropy of the normalised singular values of centred features [N, D] (Roy and
    Vetterli, EUSIPCO 2007): from 1, all on a line, to min(N - 1, D)."""
    if len(features) < 2:
        raise ValueError("effective_rank needs at least two rows")
    x = features.astype(np.float64)
    x = x - x.mean(axis=0)
    if len(x) > x.shape[1]:  # the same singular values from a small matrix
        values = np.sqrt(np.clip(np.linalg.eigvalsh(x.T @ x), 0.0, None))
    else:
        values = np.linalg.svd(x, compute_uv=False)
    total = values.sum()
    if total == 0:
        return 0.0
    share = values[values > 0] / total
    return float(np.exp(-(share * np.log(share)).sum()))
