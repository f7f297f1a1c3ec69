import numpy as np
import pytest
import torch
from making_batches import CONFIG

from momo.evaluation import retrieval
from momo.evaluation.baselines import majority, raw_pixels, tfidf_accuracy
from momo.evaluation.chance import chance, chance_recall, chance_reciprocal_rank, fitting_ks
from momo.evaluation.finetune import Examples, FineTuneConfig, fine_tune
from momo.evaluation.momo_encoder import MoMoEncoder, MoMoTrunk
from momo.evaluation.probe import linear_probe
from momo.evaluation.retrieval import places, reciprocal_ranks, zero_shot_retrieval


def test_probe_separates_what_a_line_separates():
    g = np.random.default_rng(0)
    labels = g.integers(0, 3, 600)
    features = np.eye(3)[labels] * 4 + g.normal(size=(600, 3))
    parts = [(features[a:b], labels[a:b]) for a, b in ((0, 300), (300, 400), (400, 600))]
    result = linear_probe(*parts)
    assert result.score > 0.9
    shuffled = [(x, g.permutation(y)) for x, y in parts]
    assert linear_probe(*shuffled).score < 0.5
    again = linear_probe(*parts)
    assert (again.score, again.c) == (result.score, result.c)
    assert np.array_equal(again.predictions, result.predictions)


def test_retrieval_counts_ties_as_misses_and_any_positive_as_a_hit():
    images = np.eye(4)
    groups = np.arange(4)
    assert zero_shot_retrieval(images, images, groups, groups).recalls["image_to_text_r@1"] == 1.0
    constant = np.ones((4, 4))
    tied = zero_shot_retrieval(constant, constant, groups, groups)
    assert tied.recalls["image_to_text_r@1"] == 0.0
    texts = np.eye(4)[[1, 0, 2, 3]]
    swapped = zero_shot_retrieval(images, texts, groups, groups, ks=(1,))
    assert swapped.recalls == {"image_to_text_r@1": 0.5, "text_to_image_r@1": 0.5}
    shared = np.array([0, 0, 1, 2])
    assert zero_shot_retrieval(images, texts, shared, shared).recalls["text_to_image_r@1"] == 1.0


def brute_ranks(queries, candidates, query_groups, candidate_groups):
    ranks = []
    for query, group in zip(queries, query_groups, strict=True):
        scores = [float(query @ c) for c in candidates]
        own = [s for s, g in zip(scores, candidate_groups, strict=True) if g == group]
        strangers = [s for s, g in zip(scores, candidate_groups, strict=True) if g != group]
        ranks.append(sum(s >= max(own) for s in strangers) if own else -1)
    return np.array(ranks)


@pytest.mark.parametrize("block", [7, 4096])
def test_retrieval_equals_brute_force_with_several_captions_and_ties(monkeypatch, block):
    monkeypatch.setattr(retrieval, "BLOCK", block)
    g = np.random.default_rng(0)
    images = g.integers(-2, 3, (40, 3)).astype(np.float32)  # small integers: many exact ties
    texts = g.integers(-2, 3, (90, 3)).astype(np.float32)
    image_groups, text_groups = g.permutation(40).astype(str), g.integers(0, 45, 90).astype(str)
    result = zero_shot_retrieval(images, texts, image_groups, text_groups)
    expected = brute_ranks(images, texts, image_groups, text_groups)
    assert np.array_equal(result.image_ranks, expected)
    assert (expected == -1).any()  # pictures without captions
    other = brute_ranks(texts, images, text_groups, image_groups)
    assert np.array_equal(result.text_ranks, other)
    share = np.mean((expected >= 0) & (expected < 5))
    assert result.recalls["image_to_text_r@5"] == pytest.approx(share)


def test_matching_reorders_the_nearest_only():
    g = np.random.default_rng(0)
    images, texts = (g.normal(size=(30, 8)).astype(np.float32) for _ in range(2))
    groups = np.arange(30)
    plain = zero_shot_retrieval(images, texts, groups, groups)
    knows = zero_shot_retrieval(
        images, texts, groups, groups, rerank=lambda i, t: (i == t).astype(float), rerank_top=10
    )
    for before, after in (
        (plain.image_ranks, knows.image_ranks),
        (plain.text_ranks, knows.text_ranks),
    ):
        assert (after[before < 10] == 0).all()
        assert np.array_equal(after[before >= 10], before[before >= 10])


@pytest.mark.parametrize("wrong", ["empty", "nan", "length"])
def test_retrieval_names_what_is_wrong(wrong):
    images, texts, groups = np.eye(3), np.eye(3), np.arange(3)
    if wrong == "empty":
        texts, message = texts[:0], "no texts"
    elif wrong == "nan":
        images, message = images * np.nan, "images hold values that are not finite"
    else:
        images, message = images[:2], "2 images, but 3"
    with pytest.raises(ValueError, match=message):
        zero_shot_retrieval(images, texts, groups, groups)


def test_chance_is_what_random_rankings_reach():
    queries, candidates = np.array([0, 1, 2]), np.array([0, 0, 1, 2, 3, 4])
    g = np.random.default_rng(0)
    hits = [
        any(candidates[i] == q for i in g.permutation(6)[:2]) for _ in range(4000) for q in queries
    ]
    assert chance_recall(queries, candidates, 2) == pytest.approx(np.mean(hits), abs=0.02)


def test_chance_of_the_reciprocal_rank():
    queries, candidates = np.array([0, 1, 2, 9]), np.array([0, 0, 1, 2, 3, 4])
    g = np.random.default_rng(0)
    found = []
    for _ in range(4000):
        order = candidates[g.permutation(6)].tolist()
        found += [1 / (1 + order.index(q)) if q in order else 0.0 for q in queries.tolist()]
    assert chance_reciprocal_rank(queries, candidates) == pytest.approx(np.mean(found), abs=0.01)
    alone = np.arange(50)
    harmonic = sum(1 / r for r in range(1, 51)) / 50
    assert chance_reciprocal_rank(alone, alone) == pytest.approx(harmonic)


@pytest.mark.parametrize(
    "pairs, ks", [(2, (1,)), (11, (1,)), (49, (1,)), (50, (1, 5)), (99, (1, 5)), (100, (1, 5, 10))]
)
def test_only_those_k_are_measured_at_which_chance_is_small(pairs, ks):
    groups = np.arange(pairs)
    assert fitting_ks(groups, groups) == ks


def test_a_guess_by_metric():
    assert chance("accuracy", 4) == chance("mean_per_class_accuracy", 4) == 0.25
    assert chance("roc_auc", 2) == 0.5
    assert chance("pearson_spearman", 1) == 0.0
    assert chance("accuracy_f1", 2) is None


def test_ranks_as_places():
    ranks = np.array([0, 3, -1])
    assert reciprocal_ranks(ranks).tolist() == [1.0, 0.25, 0.0]
    assert places(ranks, 7).tolist() == [1.0, 4.0, 8.0]


def test_features_do_not_depend_on_batch_size_or_padding(model):
    pixels = np.random.default_rng(0).integers(0, 255, (5, 3, 32, 32), dtype=np.uint8)
    encoder = MoMoEncoder(model, device="cpu")
    features = encoder.image_features(pixels)
    assert features.shape[0] == 5
    np.testing.assert_allclose(encoder.image_features(pixels, batch_size=2), features, atol=1e-5)
    ids = np.array([[2, 9, 3], [2, 3, 0]])
    padded = np.pad(ids, ((0, 0), (0, 4)))
    np.testing.assert_allclose(encoder.text_features(padded), encoder.text_features(ids), atol=1e-5)


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
    result = fine_tune(MoMoTrunk(model), *parts, classes=2, config=config)
    assert result.score > 0.95
    again = fine_tune(MoMoTrunk(model), *parts, classes=2, config=config)
    assert (again.score, again.best_epoch) == (result.score, result.best_epoch)
    assert np.array_equal(again.predictions, result.predictions)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(before[n].equal(t) for n, t in model.state_dict().items())


def test_baselines():
    assert majority(["yes", "yes", "no"], ["yes", "no", "no", "no"]) == 0.25
    texts = ["good fun film", "bad dull film"] * 20
    labels = np.array([1, 0] * 20)
    assert tfidf_accuracy((texts, labels), (texts, labels)) == 1.0
    assert raw_pixels(np.full((2, 3, 4, 4), 255, dtype=np.uint8)).shape == (2, 48)
