"""Zero-shot classification: the class whose description lies nearest (CLIP, arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

TEMPLATES = (
    "{}",
    "a picture of {}",
    "a photo of a {}",
    "a drawing of a {}",
    "a small picture of a {}",
    "a close-up of a {}",
    "an image that shows {}",
)
"""A short general set; a task may bring its own."""


def class_embeddings(
    embed_texts: Callable[[list[str]], np.ndarray],
    class_names: Sequence[str],
    templates: Sequence[str] = TEMPLATES,
) -> np.ndarray:
    """Unit vectors [C, E]: the mean over templates of a class's unit vectors.

    `embed_texts` gives unit vectors [N, E]. Raises ValueError for a template without `{}` and for
    no classes.
    """
    if not class_names or not templates:
        raise ValueError("zero-shot classification needs at least one class and one template")
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"the template {template!r} has no {{}} for the class's name")
    texts = [template.replace("{}", name) for name in class_names for template in templates]
    vectors = embed_texts(texts).reshape(len(class_names), len(templates), -1).mean(axis=1)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def classify(images: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`images` [N, E], `classes` [C, E] → the nearest class int64 [N] and cosines [N, C]."""
    scores = images @ classes.T
    return scores.argmax(axis=1), scores
