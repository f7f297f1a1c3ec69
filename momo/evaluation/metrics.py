"""Metrics by name, each `(predictions, references) -> float`; scikit-learn and SciPy compute all
but accuracy, and are imported by those that need them.

Predictions and references are arrays [N] (answers for VQA). All raise ValueError where there is
nothing to measure. Constant predictions have no correlation with anything: 0.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

Metric = Callable[[Any, Any], float]


def _checked(metric: Metric) -> Metric:
    def checked(predictions: Any, references: Any) -> float:
        if len(predictions) != len(references):
            raise ValueError(
                f"{len(predictions)} predictions for {len(references)} references: give one each"
            )
        if not len(predictions):
            raise ValueError("no predictions: a metric needs at least one")
        return float(metric(predictions, references))

    checked.__doc__ = metric.__doc__
    checked.__name__ = metric.__name__
    return checked


def _quietly(score: Callable[[Any], Any]) -> float:
    """`score` of scikit-learn's metrics, without a warning where there is nothing to divide by."""
    from sklearn import metrics
    from sklearn.exceptions import UndefinedMetricWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        return float(score(metrics))


@_checked
def accuracy(predictions: Any, references: Any) -> float:
    """Share of equal entries."""
    return float((np.asarray(predictions) == np.asarray(references)).mean())


@_checked
def mean_per_class_accuracy(predictions: Any, references: Any) -> float:
    """Recall averaged over the classes that occur in the references."""
    from sklearn import metrics

    with warnings.catch_warnings():  # a predicted class without references counts for no class
        warnings.simplefilter("ignore", UserWarning)
        return float(metrics.balanced_accuracy_score(references, predictions))


@_checked
def f1(predictions: Any, references: Any) -> float:
    """F1 of class 1; 0 where it is neither predicted nor there."""
    return _quietly(lambda metrics: metrics.f1_score(references, predictions, pos_label=1))


@_checked
def macro_f1(predictions: Any, references: Any) -> float:
    """F1 averaged over classes."""
    return _quietly(lambda metrics: metrics.f1_score(references, predictions, average="macro"))


@_checked
def matthews(predictions: Any, references: Any) -> float:
    """Matthews' correlation (CoLA)."""
    from sklearn import metrics

    return float(metrics.matthews_corrcoef(references, predictions))


def _correlation(predictions: Any, references: Any, function: Callable[..., Any]) -> float:
    x, y = np.asarray(predictions, dtype=np.float64), np.asarray(references, dtype=np.float64)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(function(x, y).statistic)


@_checked
def pearson(predictions: Any, references: Any) -> float:
    """Pearson's correlation."""
    from scipy import stats

    return _correlation(predictions, references, stats.pearsonr)


@_checked
def spearman(predictions: Any, references: Any) -> float:
    """Spearman's rank correlation, ties at their mean rank."""
    from scipy import stats

    return _correlation(predictions, references, stats.spearmanr)


@_checked
def pearson_spearman(predictions: Any, references: Any) -> float:
    """The mean of both (STS-B)."""
    return (pearson(predictions, references) + spearman(predictions, references)) / 2


@_checked
def accuracy_f1(predictions: Any, references: Any) -> float:
    """The mean of accuracy and F1 of class 1 (MRPC, QQP)."""
    return (accuracy(predictions, references) + f1(predictions, references)) / 2


@_checked
def roc_auc(predictions: Any, references: Any) -> float:
    """Area under the ROC curve; predictions are scores of class 1 (Hateful Memes).

    Raises ValueError where the references are of one class.
    """
    if len(np.unique(np.asarray(references))) != 2:
        raise ValueError("roc_auc needs references of two classes: one class has no curve")
    from sklearn import metrics

    return float(metrics.roc_auc_score(references, predictions))


def soft_vqa_scores(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """float64 [N]: an answer's score by VQAv2's official evaluation.

    Each of the (usually ten) people's answers is left out in turn; the score is min(1, equal
    answers among the others / 3), averaged (Antol et al., arXiv 1505.00468). Answers are compared
    after `momo.evaluation.vqa.normalise_answer`.
    """
    from momo.evaluation.vqa import normalise_answer

    scores = []
    for given, people in zip(predictions, references, strict=True):
        if not people:
            raise ValueError("VQA accuracy: a question without people's answers")
        answer = normalise_answer(given)
        equal = np.array([normalise_answer(p) == answer for p in people], dtype=np.float64)
        others = equal.sum() - equal if len(people) > 1 else equal
        scores.append(np.minimum(1.0, others / 3).mean())
    return np.array(scores)


@_checked
def vqa_accuracy(predictions: Any, references: Any) -> float:
    """VQAv2's accuracy: the mean of `soft_vqa_scores`."""
    return float(soft_vqa_scores(predictions, references).mean())


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.__name__: metric
        for metric in (
            accuracy,
            mean_per_class_accuracy,
            f1,
            macro_f1,
            matthews,
            pearson,
            spearman,
            pearson_spearman,
            accuracy_f1,
            roc_auc,
            vqa_accuracy,
        )
    }
)


def metric_named(name: str) -> Metric:
    """Raises ValueError that lists the known names."""
    if name not in METRICS:
        raise ValueError(f"no metric {name!r}; known: {', '.join(METRICS)}")
    return METRICS[name]
