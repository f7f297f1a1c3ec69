import numpy as np
import pytest
import torch
from making_batches import CONFIG

from momo.evaluation.baselines import majority, raw_pixels, tfidf_accuracy
from momo.evaluation.features import image_features, text_features
from momo.evaluation.finetune import Examples, FineTuneConfig, fine_tune
from momo.evaluation.probe import linear_probe
from momo.evaluation.retrieval import chance_recall, zero_shot_retrieval


def test_probe_separates_what_a_line_separates():
    g = np.random.default_rng(0)
    labels = g.integers(0, 3, 600)
    features = np.eye(3)[labels] * 4 + g.normal(size=(600, 3))
    parts = [(features[a:b], labels[a:b]) for a, b in ((0, 300), (300, 400), (400, 600))]
    result = linear_probe(*parts)
    assert result.accuracy > 0.9
    shuffled = [(x, g.permutation(y)) for x, y in parts]
    assert linear_probe(*shuffled).accuracy < 0.5
    assert result == linear_probe(*parts)


def test_retrieval_counts_ties_as_misses_and_any_positive_as_a_hit():
    images = np.eye(4)
    groups = np.arange(4)
    assert zero_shot_retrieval(images, images, groups, groups)["image_to_text_r@1"] == 1.0
    constant = np.ones((4, 4))
    tied = zero_shot_retrieval(constant, constant, groups, groups)
    assert tied["image_to_text_r@1"] == 0.0
    texts = np.eye(4)[[1, 0, 2, 3]]
    swapped = zero_shot_retrieval(images, texts, groups, groups, ks=(1,))
    assert swapped == {"image_to_text_r@1": 0.5, "text_to_image_r@1": 0.5}
    shared = np.array([0, 0, 1, 2])
    assert zero_shot_retrieval(images, texts, shared, shared)["text_to_image_r@1"] == 1.0


def test_chance_is_what_random_rankings_reach():
    queries, candidates = np.array([0, 1, 2]), np.array([0, 0, 1, 2, 3, 4])
    g = np.random.default_rng(0)
    hits = [
        any(candidates[i] == q for i in g.permutation(6)[:2]) for _ in range(4000) for q in queries
    ]
    assert chance_recall(queries, candidates, 2) == pytest.approx(np.mean(hits), abs=0.02)


def test_features_do_not_depend_on_batch_size_or_padding(model):
    pixels = np.random.default_rng(0).integers(0, 255, (5, 3, 32, 32), dtype=np.uint8)
    features = image_features(model, pixels)
    assert features.shape[0] == 5
    np.testing.assert_allclose(image_features(model, pixels, batch_size=2), features, atol=1e-5)
    ids = np.array([[2, 9, 3], [2, 3, 0]])
    padded = np.pad(ids, ((0, 0), (0, 4)))
    np.testing.assert_allclose(text_features(model, padded), text_features(model, ids), atol=1e-5)


def examples(rows: int, seed: int, pictures: bool) -> Examples:
    """Label 1 where word 7 (not 8) stands; with pictures, where the picture is bright."""
    g = np.random.default_rng(seed)
    labels = g.integers(0, 2, rows)
    ids = g.integers(20, CONFIG.vocab_size, (rows, 6))
    ids[:, 0], ids[:, 5] = 2, 3
    if not pictures:
        ids[:, 2] = np.where(labels == 1, 7, 8)
        return Examples(ids, labels)
    pixels = np.stack([np.full((3, 32, 32), v, dtype=np.uint8) for v in (30, 220)])
    return Examples(ids, labels, pixels, labels.copy())


@pytest.mark.parametrize("pictures", [False, True])
def test_fine_tuning_learns_repeats_and_leaves_the_model(model, pictures):
    before = {n: t.clone() for n, t in model.state_dict().items()}
    parts = [examples(n, s, pictures) for n, s in ((256, 0), (64, 1), (64, 2))]
    config = FineTuneConfig(epochs=6, batch_size=32, learning_rate=3e-3)
    state = torch.random.get_rng_state()
    result = fine_tune(model, *parts, classes=2, config=config)
    assert result.accuracy > 0.95
    assert result == fine_tune(model, *parts, classes=2, config=config)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(before[n].equal(t) for n, t in model.state_dict().items())


def test_baselines():
    assert majority(["yes", "yes", "no"], ["yes", "no", "no", "no"]) == 0.25
    texts = ["good fun film", "bad dull film"] * 20
    labels = np.array([1, 0] * 20)
    assert tfidf_accuracy((texts, labels), (texts, labels)) == 1.0
    assert raw_pixels(np.full((2, 3, 4, 4), 255, dtype=np.uint8)).shape == (2, 48)
