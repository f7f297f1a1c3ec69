"""What trivial methods reach, through the same harness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression


def tfidf_accuracy(
    train: tuple[Sequence[str], np.ndarray], test: tuple[Sequence[str], np.ndarray]
) -> float:
    """TF-IDF of words and word pairs with logistic regression, scikit-learn's defaults.

    Words of one text alone count where there are no others. Raises ValueError for texts without any
    word.
    """
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    try:
        features = vectorizer.fit_transform(train[0])
    except ValueError:  # no word comes twice
        vectorizer.set_params(min_df=1)
        features = vectorizer.fit_transform(train[0])
    model = LogisticRegression(C=4.0, max_iter=500).fit(features, train[1])
    return float(model.score(vectorizer.transform(test[0]), test[1]))


def majority(train_labels: Sequence[object], test_labels: Sequence[object]) -> float:
    """Accuracy of always giving the training part's commonest label."""
    common = Counter(train_labels).most_common(1)[0][0]
    return sum(label == common for label in test_labels) / max(1, len(test_labels))


def raw_pixels(pixels: np.ndarray) -> np.ndarray:
    """uint8 pictures of any shape → float32 [N, values] in [0, 1]."""
    return pixels.reshape(len(pixels), -1).astype(np.float32) / 255.0
