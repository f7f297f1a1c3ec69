"""What a protocol found → the result that a stage returns. Light, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.evaluation.configs import ProtocolConfig

if TYPE_CHECKING:
    import numpy as np

Result = dict[str, Any]
"""Values by metric with intervals and chance, `n`, `details`, `seed`, `limit`; or {"not_available":
why}."""
Value = dict[str, float | None]


def value_of(
    value: float, bounds: tuple[float, float], chance: float | None = None
) -> dict[str, float | None]:
    """A measured value with its interval and what a guess reaches."""
    return {"value": float(value), "low": bounds[0], "high": bounds[1], "chance": chance}


def scored(
    config: ProtocolConfig,
    predictions: Any,
    truth: Any,
    groups: np.ndarray | None = None,
    chance: float | None = None,
) -> Value:
    """The metric with its interval; by the mean of scores where it is one."""
    import numpy as np

    from momo.evaluation.bootstrap import interval, interval_of_mean
    from momo.evaluation.metrics import metric_named, soft_vqa_scores

    if config.metric in ("accuracy", "vqa_accuracy"):
        if config.metric == "accuracy":
            scores = np.asarray(predictions) == np.asarray(truth)
        else:
            scores = soft_vqa_scores(predictions, truth)
        bounds = interval_of_mean(scores, groups=groups, seed=config.seed)
        return value_of(float(np.mean(scores)), bounds, chance)
    metric = metric_named(config.metric)
    bounds = interval(metric, predictions, truth, groups=groups, seed=config.seed)
    return value_of(metric(predictions, truth), bounds, chance)


def result_of(
    config: ProtocolConfig, value: Value, count: int, details: Mapping[str, Any]
) -> Result:
    """`count`: test examples that the value is over."""
    return {
        "values": {config.metric: value},
        "n": count,
        "details": dict(details),
        **settings_of(config),
    }


def settings_of(config: ProtocolConfig) -> dict[str, int]:
    """What else a value depends on."""
    return {"seed": config.seed, "limit": config.limit}


def first_captions(
    image_groups: np.ndarray, text_groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the pictures that have a caption, and of the first caption of each: int64 [M]."""
    import numpy as np

    row_of: dict[Any, int] = {}
    for row, group in enumerate(text_groups.tolist()):
        row_of.setdefault(group, row)
    own = [(i, row_of[g]) for i, g in enumerate(image_groups.tolist()) if g in row_of]
    rows, captions = zip(*own, strict=True)
    return np.array(rows), np.array(captions)
