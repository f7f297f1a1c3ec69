"""Vectors made smaller find what the whole ones find, as far as their kind allows."""

import numpy as np
import pytest
from making_batches import CONFIG

import momo
from momo.export import save
from momo.model import build_model
from momo.tokenizer import train_wordpiece
from momo.vectors import Ranges, quantise, signs_apart, truncate

K = 10


@pytest.fixture(scope="module")
def clustered():
    """4,000 unit vectors of 128 numbers in 200 clusters, and 100 queries near them."""
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((200, 128)) * np.linspace(2.0, 0.2, 128)
    found = centres[draw.integers(0, 200, 4100)] + 0.5 * draw.standard_normal((4100, 128))
    found = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return found[:4000], found[4000:]


def nearest(scores):
    """Places of the K largest of each query's scores [Q, N]."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :K]


def recall(found, wanted):
    hits = [len({*a} & {*b}) / K for a, b in zip(found, wanted, strict=True)]
    return float(np.mean(hits))


def test_int8_codes_find_nearly_all_and_signs_most(clustered):
    vectors, queries = clustered
    wanted = nearest(queries @ vectors.T)
    ranges = Ranges.of(vectors[::10])
    codes = quantise(vectors, "int8", ranges)
    assert (codes.dtype, codes.shape) == (np.int8, vectors.shape)
    assert np.abs(ranges.vectors(codes) - vectors).mean() < ranges.step.mean() / 2
    scores = ranges.scores(codes, queries).T
    # Within a cluster vectors are nearly as near as each other: some change places.
    assert recall(nearest(scores), wanted) > 0.9
    assert np.abs(scores - queries @ vectors.T).mean() < 0.003
    bits, query_bits = quantise(vectors, "binary"), quantise(queries, "binary")
    assert (bits.dtype, bits.shape) == (np.uint8, (4000, 16))
    apart = np.stack([signs_apart(bits, query) for query in query_bits])
    assert recall(nearest(-apart), wanted) > 0.4
    # Of signs the nearest 100 hold nearly all; ordered by the whole vectors they are the result.
    first = np.argsort(apart, axis=1, kind="stable")[:, :100]
    again = [
        rows[np.argsort(-(vectors[rows] @ q))][:K] for rows, q in zip(first, queries, strict=True)
    ]
    assert recall(again, wanted) > 0.95


def test_signs_are_told_apart_by_their_number():
    bits = quantise(np.array([[1.0] * 9, [-1.0] * 9, [1.0] * 8 + [-1.0]]), "binary")
    assert signs_apart(bits, bits[0]).tolist() == [0, 9, 1]


def test_constant_dimensions_and_wrong_kinds():
    flat = np.ones((3, 4), dtype=np.float32)
    np.testing.assert_allclose(Ranges.of(flat).vectors(quantise(flat)), flat)
    with pytest.raises(ValueError, match="at least one"):
        Ranges.of(flat[:0])
    with pytest.raises(ValueError, match="give int8 or binary"):
        quantise(flat, "int4")  # type: ignore[arg-type]


def test_dimensions_are_a_prefix_of_length_one(tmp_path):
    tokenizer = train_wordpiece(["a red apple"] * 5, CONFIG.vocab_size)
    save(build_model(CONFIG, seed=1), tmp_path, tokenizer.to_str())
    embedder = momo.load(tmp_path, "cpu")
    whole = embedder.embed(texts=["a red apple", "apple"])
    part = embedder.embed(texts=["a red apple", "apple"], dimensions=5)
    np.testing.assert_allclose(np.linalg.norm(part, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(part, truncate(whole, 5))
    wanted = whole[:, :5] / np.linalg.norm(whole[:, :5], axis=1, keepdims=True)
    np.testing.assert_allclose(part, wanted, rtol=1e-5)
    picture = np.zeros((9, 9, 3), np.uint8)
    pair = embedder.embed(texts=["apple"], images=[picture], dimensions=5)
    np.testing.assert_allclose(np.linalg.norm(pair, axis=1), 1.0, rtol=1e-6)
    for wrong in (0, -1, CONFIG.embed_dim + 1):
        with pytest.raises(ValueError, match=f"dimensions={wrong}: the model's vectors have 1 to"):
            embedder.embed(texts=["apple"], dimensions=wrong)
