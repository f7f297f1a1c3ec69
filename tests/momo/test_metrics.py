import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from momo.evaluation.metrics import METRICS, metric_named, soft_vqa_scores
from momo.evaluation.vqa import normalise_answer

LABELS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


def by_hand_f1(predictions, references, label):
    hits = sum(p == r == label for p, r in zip(predictions, references, strict=True))
    wrong = sum(p != r and label in (p, r) for p, r in zip(predictions, references, strict=True))
    return 2 * hits / (2 * hits + wrong) if hits else 0.0


@given(LABELS)
@settings(max_examples=60, deadline=None)
def test_metrics_of_classes_equal_an_independent_count(pairs):
    predictions, references = (np.array(x) for x in zip(*pairs, strict=True))
    assert METRICS["accuracy"](predictions, references) == pytest.approx(
        sk.accuracy_score(references, predictions)
    )
    recalls = [(predictions[references == c] == c).mean() for c in set(references.tolist())]
    assert METRICS["mean_per_class_accuracy"](predictions, references) == pytest.approx(
        np.mean(recalls)
    )
    seen = set(predictions.tolist()) | set(references.tolist())
    macro = np.mean([by_hand_f1(predictions, references, c) for c in seen])
    assert METRICS["macro_f1"](predictions, references) == pytest.approx(macro)
    binary = predictions > 1, references > 1
    expected = by_hand_f1(*binary, True)
    assert METRICS["f1"](*(b.astype(int) for b in binary)) == pytest.approx(expected)
    assert METRICS["accuracy_f1"](*(b.astype(int) for b in binary)) == pytest.approx(
        (expected + (binary[0] == binary[1]).mean()) / 2
    )
    x, y = (np.eye(4)[v] - np.eye(4)[v].mean(0) for v in (predictions, references))
    spread = np.sqrt((x**2).sum() * (y**2).sum())
    matthews = (x * y).sum() / spread if spread > 1e-12 else 0.0
    assert METRICS["matthews"](predictions, references) == pytest.approx(matthews, abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=40))
@settings(max_examples=60, deadline=None)
def test_correlations_with_ties_and_of_constants(pairs):
    x, y = (np.array(v, dtype=float) for v in zip(*pairs, strict=True))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert METRICS["pearson_spearman"](x, y) == 0.0
        return
    pearson = np.corrcoef(x, y)[0, 1]
    spearman = np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1]
    assert METRICS["pearson"](x, y) == pytest.approx(pearson, abs=1e-9)
    assert METRICS["spearman"](x, y) == pytest.approx(spearman, abs=1e-9)
    assert METRICS["pearson_spearman"](x, y) == pytest.approx((pearson + spearman) / 2, abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=2, max_size=30))
@settings(max_examples=60, deadline=None)
def test_roc_auc_is_the_share_of_ordered_pairs(pairs):
    scores, labels = (np.array(v, dtype=float) for v in zip(*pairs, strict=True))
    if len(set(labels)) < 2:
        with pytest.raises(ValueError, match="two classes"):
            METRICS["roc_auc"](scores, labels)
        return
    high, low = scores[labels == 1], scores[labels == 0]
    difference = high[:, None] - low[None]
    expected = ((difference > 0) + 0.5 * (difference == 0)).mean()
    assert METRICS["roc_auc"](scores, labels) == pytest.approx(expected)


def test_vqa_leaves_each_person_out_once():
    people = ["cat"] * 3 + ["dog"] * 7
    # Left-out cats leave 2 of 9 equal (2/3), left-out dogs leave 3 (1).
    assert soft_vqa_scores(["cat"], [people])[0] == pytest.approx((3 * 2 / 3 + 7 * 1) / 10)
    assert METRICS["vqa_accuracy"](["A Dog.", "bird"], [people, people]) == pytest.approx(0.5)
    assert soft_vqa_scores(["one"], [["1"] * 10])[0] == 1.0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The  Red apple", "red apple"),
        ("two", "2"),
        ("none", "0"),
        ("dont know", "don't know"),
        ("3.5", "3.5"),
        ("yes.", "yes"),
        ("1,000", "1000"),
        ("black/white", "black white"),
        ("black, white", "black white"),
        ("on\nthe table", "on table"),
    ],
)
def test_answers_are_compared_as_in_the_official_evaluation(answer, expected):
    assert normalise_answer(answer) == expected


@pytest.mark.parametrize("name", METRICS)
def test_nothing_to_measure_is_an_error(name):
    with pytest.raises(ValueError, match="at least one"):
        METRICS[name]([], [])
    with pytest.raises(ValueError, match="give one each"):
        METRICS[name]([1], [])


def test_an_unknown_metric_names_those_there_are():
    with pytest.raises(ValueError, match="no metric 'acc'; known: accuracy"):
        metric_named("acc")
