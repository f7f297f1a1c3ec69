"""The benchmark of smaller vectors counts what it says."""

import numpy as np
import pytest

from experiments.benchmarks.vectors import (
    exact,
    forms,
    in_int8,
    in_signs,
    in_signs_then_int8,
    kept,
    measured,
    recall,
)


@pytest.fixture
def vectors():
    draw = np.random.default_rng(0)
    found = draw.standard_normal((300, 64)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_recall_counts_strangers_and_ties_against_a_query():
    scores = np.arange(20, dtype=np.float32)[None].repeat(3, axis=0)
    wanted = np.zeros((3, 20), dtype=bool)
    wanted[0, 10] = wanted[1, 9] = True  # nine and ten strangers stand before them; the third: none
    assert recall(scores, wanted) == pytest.approx(1 / 3)
    assert recall(np.zeros_like(scores), wanted) == 0.0
    wanted[1, 15:] = True
    assert recall(scores, wanted) == pytest.approx(2 / 3)


def test_forms_are_near_whole_vectors_in_their_order(vectors):
    queries = vectors[:50]
    whole = exact(queries, vectors)
    assert kept(whole, whole) == 1.0
    np.testing.assert_allclose(in_int8(queries, vectors), whole, atol=0.02)
    assert in_signs(queries, vectors)[0, 0] == 0
    scored = in_signs_then_int8(queries, vectors)
    assert (np.isfinite(scored).sum(axis=1) == 100).all()
    shares = [kept(form(queries, vectors), whole) for form in (in_int8, in_signs_then_int8)]
    assert shares[0] > 0.95
    assert shares[0] >= shares[1] > kept(in_signs(queries, vectors), whole) > 0.2


def test_rows_have_both_directions_and_a_goal_for_int8_alone(vectors):
    own = np.eye(300, dtype=bool)
    rows = measured(vectors, vectors, own)
    assert len(rows) == 2 * len(forms(64))
    assert [row.goal for row in rows if row.goal] == ["value ≥ 0.9900"]
    assert rows[0].value == rows[0].peer_value == 1.0
    worse = measured(vectors, vectors[::-1].copy(), own)
    assert worse[0].peer_value < 0.2
