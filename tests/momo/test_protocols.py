"""Bootstrap, neighbours, zero-shot classification, diagnostics, the probe's library."""

import numpy as np
import pytest
from making_batches import CONFIG
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from momo.evaluation.bootstrap import (
    interval,
    interval_of_mean,
    interval_of_means,
    interval_of_median,
)
from momo.evaluation.diagnostics import alignment, effective_rank, modality_gap, uniformity
from momo.evaluation.finetune import Examples, FineTuneConfig, FineTuned, fine_tune, learning_rates
from momo.evaluation.knn import knn
from momo.evaluation.metrics import METRICS
from momo.evaluation.momo_encoder import MoMoTrunk
from momo.evaluation.probe import linear_probe
from momo.evaluation.zero_shot import class_embeddings, classify


def unit(rows, width, seed):
    x = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_intervals_of_medians_and_of_means_of_two_directions():
    g = np.random.default_rng(0)
    ranks = np.sort(g.integers(1, 100, 101)).astype(float)
    low, high = interval_of_median(ranks)
    slow = interval(lambda p, _: float(np.quantile(p, 0.5, method="inverted_cdf")), ranks, ranks)
    assert (low, high) == pytest.approx(slow, abs=4)
    assert low < np.median(ranks) < high
    groups = np.arange(101) // 10
    wide = interval_of_median(ranks, groups=groups)
    assert wide[1] - wide[0] > high - low  # sorted: a group's ranks are alike
    hits, other = (g.random(60) < 0.4).astype(float), (g.random(30) < 0.8).astype(float)
    of_both = interval_of_means([(hits, np.arange(60) // 2), (other, np.arange(30))])
    middle = (hits.mean() + other.mean()) / 2
    assert of_both[0] < middle < of_both[1]
    same = interval_of_means([(hits, np.arange(60)), (hits, np.arange(60))])
    assert same == pytest.approx(interval_of_mean(hits))  # drawn at once, not independently


def test_intervals_cover_the_true_mean_as_often_as_they_say():
    g = np.random.default_rng(0)
    inside = 0
    for seed in range(200):
        low, high = interval_of_mean(g.random(80) < 0.3, resamples=300, seed=seed)
        inside += low <= 0.3 <= high
    assert 0.88 < inside / 200 < 0.99


def test_both_ways_to_an_interval_agree_and_repeat():
    scores = np.random.default_rng(1).random(50)
    mean = METRICS["accuracy"]
    hits = (scores > 0.4).astype(int)
    one, other = interval(mean, hits, np.ones(50, int)), interval_of_mean(hits)
    assert one == pytest.approx(other, abs=0.021)
    assert one == interval(mean, hits, np.ones(50, int))


def test_groups_are_drawn_whole():
    scores = np.repeat([0.0, 1.0] * 10, 20)
    alone, grouped = interval_of_mean(scores), interval_of_mean(scores, groups=np.arange(400) // 20)
    assert grouped[1] - grouped[0] > 3 * (alone[1] - alone[0])
    ones = np.ones(400)
    whole = interval(METRICS["accuracy"], scores, ones, groups=np.arange(400) // 20)
    assert whole == pytest.approx(grouped, abs=0.051)


def test_resamples_of_one_class_are_drawn_again():
    low, high = interval(METRICS["roc_auc"], [0.1, 0.4, 0.9], [0, 0, 1], resamples=50)
    assert low == high == 1.0
    with pytest.raises(ValueError, match="none of the resamples"):
        interval(METRICS["roc_auc"], [0.1, 0.4], [0, 0], resamples=5)


def test_knn_equals_brute_force():
    parts = [(unit(n, 6, s), np.random.default_rng(s).integers(0, 4, n)) for n, s in
             ((200, 0), (60, 1), (50, 2))]  # fmt: skip
    (x, y), (v, w), (t, u) = parts

    def predict(queries, k):
        found = []
        for query in queries:
            similarity = x @ query
            near = np.argsort(-similarity, kind="stable")[:k]
            votes = np.bincount(y[near], np.exp(similarity[near] / 0.07), minlength=4)
            found.append(votes.argmax())
        return np.array(found)

    result = knn(*parts, ks=(1, 7, 500))
    scores = {k: (predict(v, k) == w).mean() for k in (1, 7, 200)}
    assert result.k == max(scores, key=lambda k: scores[k])
    assert result.validation_accuracy == pytest.approx(scores[result.k])
    assert np.array_equal(result.predictions, predict(t, result.k))
    assert result.accuracy == pytest.approx((result.predictions == u).mean())


def test_zero_shot_takes_the_mean_of_templates():
    vectors = {"a cat": [1, 0, 0], "cat": [0, 1, 0], "a dog": [0, 0, 1], "dog": [0, 0, 1]}
    classes = class_embeddings(
        lambda texts: np.array([vectors[t] for t in texts], float), ["cat", "dog"], ["a {}", "{}"]
    )
    np.testing.assert_allclose(classes, [[0.5**0.5, 0.5**0.5, 0], [0, 0, 1]])
    assert classify(np.array([[1.0, 0, 0], [0, 0.1, 0.9]]), classes)[0].tolist() == [0, 1]
    with pytest.raises(ValueError, match="no {} for the class"):
        class_embeddings(lambda _: np.zeros((1, 1)), ["cat"], ["a photo"])


def test_diagnostics_of_known_shapes():
    x, y = unit(300, 5, 0), unit(300, 5, 1)
    assert alignment(x, x) == 0.0
    assert alignment(x, -x) == pytest.approx(4.0, rel=1e-5)
    pairs = [np.exp(-2 * ((a - b) ** 2).sum()) for i, a in enumerate(x) for b in x[:i]]
    assert uniformity(x) == pytest.approx(np.log(np.mean(pairs)), rel=1e-4)
    assert uniformity(np.tile(x[:1], (10, 1))) == pytest.approx(0.0, abs=1e-6)
    assert modality_gap(x, y) < 0.3 < modality_gap(np.abs(x), -np.abs(y))
    on_a_line = np.outer(np.arange(9.0), [1.0, 2.0, 3.0])
    assert effective_rank(on_a_line) == pytest.approx(1.0, abs=1e-3)
    even = np.concatenate([np.eye(4), -np.eye(4)])
    assert effective_rank(even) == pytest.approx(4.0, rel=1e-6)
    assert effective_rank(even[:5].astype(np.float32)) == pytest.approx(
        effective_rank(np.repeat(even[:5], 8, axis=0)), rel=1e-5
    )


def test_the_probe_is_scikit_learns_regression_at_the_chosen_strength():
    g = np.random.default_rng(0)
    labels = g.integers(0, 5, 900)
    features = (np.eye(5)[labels] + 0.9 * g.normal(size=(900, 5))).astype(np.float32)
    parts = [(features[a:b], labels[a:b]) for a, b in ((0, 500), (500, 700), (700, 900))]
    result = linear_probe(*parts)
    scaler = StandardScaler().fit(parts[0][0])
    model = LogisticRegression(C=result.c, max_iter=2000, tol=1e-8)
    model.fit(scaler.transform(features[:700]), labels[:700])
    expected = model.predict(scaler.transform(parts[2][0]))
    assert (expected == result.predictions).mean() > 0.985
    assert result.score == pytest.approx((expected == labels[700:]).mean(), abs=0.015)
    with pytest.raises(ValueError, match="one class"):
        linear_probe((features, np.zeros(900)), *parts[1:])


def test_lower_layers_learn_slower(model):
    classifier = FineTuned(MoMoTrunk(model), 2, 0.0)
    layers = classifier.layers()
    assert len(layers) == CONFIG.depth + 2
    rates = learning_rates(len(layers), FineTuneConfig(learning_rate=1.0, layer_decay=0.5))
    assert rates == [0.5 ** (len(layers) - 1 - i) for i in range(len(layers))]
    assert rates[-1] == 1.0  # norm and head


def test_regression_learns_a_number(model):
    g = np.random.default_rng(0)

    def part(rows):
        strength = g.random(rows)
        ids = g.integers(20, 40, (rows, 10))
        ids[:, 0], ids[:, 9] = 2, 3
        ids[:, 1:9] = np.where(g.random((rows, 8)) < strength[:, None], 7, ids[:, 1:9])
        return Examples(ids, (ids == 7).mean(axis=1).astype(np.float32))

    config = FineTuneConfig(
        epochs=6, batch_size=32, learning_rate=3e-3, objective="regression", metric="pearson",
        layer_decay=0.9,
    )  # fmt: skip
    result = fine_tune(MoMoTrunk(model), part(256), part(64), part(64), 1, config)
    assert result.score > 0.8
    assert result.predictions.shape == (64,)
    with pytest.raises(ValueError, match="the valid part is empty"):
        fine_tune(MoMoTrunk(model), part(8), part(0), part(8), 1, config)


def test_choices_never_depend_on_the_test_part(model):
    """The test part's labels are swapped for others: what was chosen and predicted is the same."""
    g = np.random.default_rng(0)
    labels = g.integers(0, 3, 240)
    features = (np.eye(3)[labels] + 0.8 * g.normal(size=(240, 3))).astype(np.float32)
    parts = [(features[a:b], labels[a:b]) for a, b in ((0, 120), (120, 180), (180, 240))]
    other = (parts[2][0], (parts[2][1] + 1) % 3)
    one, two = linear_probe(*parts), linear_probe(*parts[:2], other)
    assert (one.c, one.validation_score) == (two.c, two.validation_score)
    assert np.array_equal(one.predictions, two.predictions)
    near, far = knn(*parts), knn(*parts[:2], other)
    assert (near.k, near.validation_accuracy) == (far.k, far.validation_accuracy)
    assert np.array_equal(near.predictions, far.predictions)

    def texts(rows, shift):
        found = np.random.default_rng(rows).integers(20, 40, (rows, 6))
        return Examples(found, (found[:, 2] + shift) % 2)

    config = FineTuneConfig(epochs=3, batch_size=16)
    runs = [
        fine_tune(MoMoTrunk(model), texts(48, 0), texts(24, 0), texts(25, shift), 2, config)
        for shift in (0, 1)
    ]
    assert runs[0].best_epoch == runs[1].best_epoch
    assert runs[0].validation_score == runs[1].validation_score
    assert np.array_equal(runs[0].predictions, runs[1].predictions)
    assert runs[0].score == pytest.approx(1 - runs[1].score)


def test_answers_are_scored_as_people_gave_them(model):
    g = np.random.default_rng(1)
    answers = ("red", "2")
    people = {0: ["red"] * 7 + ["dark red"] * 3, 1: ["two"] * 10}

    def part(rows):
        labels = g.integers(0, 2, rows)
        ids = g.integers(20, 40, (rows, 6))
        ids[:, 0], ids[:, 5], ids[:, 2] = 2, 3, 7 + labels
        return Examples(ids, labels, references=[people[int(y)] for y in labels])

    config = FineTuneConfig(epochs=5, batch_size=32, learning_rate=3e-3, metric="vqa_accuracy")
    result = fine_tune(MoMoTrunk(model), part(256), part(64), part(64), 2, config, answers=answers)
    assert result.score > 0.95
    assert set(result.predictions) == set(answers)
    memes = FineTuneConfig(epochs=3, batch_size=32, learning_rate=3e-3, metric="roc_auc")
    plain = [Examples(p.ids, p.labels) for p in (part(256), part(64), part(64))]
    scores = fine_tune(MoMoTrunk(model), *plain, 2, memes)
    assert scores.score > 0.95
    assert scores.predictions.dtype == np.float32
