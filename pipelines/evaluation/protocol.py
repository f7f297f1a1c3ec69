"""What a protocol is, and what all have in common. Light: torch comes when one runs.

A protocol is a class in a file of `pipelines/evaluation/protocols/`. Most are one of these two:

- `FeatureClassifier`: learns classes from a frozen model's features, once for all of them;
- `OnModel`: runs the model itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from momo_platform.stages import Context
from pipelines.config import EvaluationConfig
from pipelines.evaluation.configs import ProtocolConfig, Tuning
from pipelines.evaluation.datasets import DataSetPlace
from pipelines.evaluation.items import Usable
from pipelines.evaluation.results import Result, result_of, scored
from pipelines.evaluation.tasks import EvaluationTask

if TYPE_CHECKING:
    import numpy as np

    from momo.evaluation.encoder import Encoder
    from momo.evaluation.metrics import Metric
    from pipelines.evaluation.trivial import Trivial

Arrays: TypeAlias = "Mapping[str, np.ndarray]"
"""A model's features of a data set, as `features.arrays_of` gives them."""
Part: TypeAlias = "tuple[np.ndarray, np.ndarray]"
"""Features [N, D] and labels [N] of one part."""
Baseline = tuple[float | None, dict[str, float]]
"""What a trivial method reaches, and details of it."""


@dataclass(frozen=True)
class Given:
    """How a protocol is asked for on data from the command line: what it `holds` (a name in
    `given.HOLDINGS`), its `word` there, and the trivial method that results stand beside."""

    holds: str
    word: str
    baseline: str


class Protocol(ABC):
    """How tasks are measured; without any state. `name` is that of its file.

    `metric`: of data from the command line. `embeddings`: it reads vectors in the space of texts
    and pictures. `trains`: it learns from a training part. `given`: what data from the command line
    it takes.
    """

    name: ClassVar[str]
    metric: ClassVar[str] = "accuracy"
    embeddings: ClassVar[bool] = False
    trains: ClassVar[bool] = True
    given: ClassVar[tuple[Given, ...]] = ()

    def config(self, metric: str, place: DataSetPlace, seed: int, limit: int = 0) -> ProtocolConfig:
        """What it is told, of a task with this metric."""
        return ProtocolConfig(self.name, metric, place, seed, limit)

    def planned(
        self, task: EvaluationTask, place: DataSetPlace, evaluation: EvaluationConfig
    ) -> ProtocolConfig:
        """What its stage is told."""
        config = self.config(task.metric, place, evaluation.seed, evaluation.limit)
        tuning = self.tuning(task, evaluation)
        return replace(config, tuning=tuning, threads=evaluation.threads)

    def tuning(self, task: EvaluationTask, evaluation: EvaluationConfig) -> Tuning | None:
        """How the model is trained further for the task; None: it is not."""
        return None

    def chance(self, metric: str, classes: int) -> float | None:
        """What a guess reaches among so many classes; None where that is not defined."""
        from momo.evaluation.chance import chance

        return chance(metric, classes)

    def baseline(self, data: Trivial) -> Baseline:
        """Of the trivial method; None: it is chance, which the results say."""
        return None, {}


class OnFeatures(Protocol):
    """Needs a model's features only, which are computed once for all such protocols."""

    @abstractmethod
    def measure(self, config: ProtocolConfig, arrays: Arrays) -> Result:
        """What is lacking is `not_available`."""


class OnModel(Protocol):
    """Runs the model."""

    def planned(
        self, task: EvaluationTask, place: DataSetPlace, evaluation: EvaluationConfig
    ) -> ProtocolConfig:
        config, device = super().planned(task, place, evaluation), device_of(evaluation)
        return replace(config, precision=evaluation.precision, device=device)

    @abstractmethod
    def needs(self, items: Usable) -> tuple[str, ...]:
        """What a model must be able to do (`momo.evaluation.encoder.Capability`)."""

    @abstractmethod
    def measure(self, subject: Subject) -> Result:
        """Of a model that has what it `needs`."""


@dataclass(frozen=True)
class Subject:
    """A model and the data that it is measured on."""

    config: ProtocolConfig
    encoder: Encoder
    items: Usable
    context: Context


@dataclass(frozen=True)
class Predicted:
    """Classes or numbers [N] for the test part, and what was chosen on the way."""

    predictions: np.ndarray
    details: Mapping[str, float] = field(default_factory=dict)


class ClassPredictor(OnFeatures):
    """Names a class for each example of the test part."""

    @abstractmethod
    def predict(self, arrays: Arrays, metric: Metric) -> Predicted | str:
        """Of the test part, in order; or why it can't."""

    def measure(self, config: ProtocolConfig, arrays: Arrays) -> Result:
        from momo.evaluation.metrics import metric_named

        test = arrays["split"] == "test"
        truth, groups = arrays["labels"][test], arrays["groups"][test]
        if not len(truth):
            return {"not_available": "there is no test example"}
        found = self.predict(arrays, metric_named(config.metric))
        if isinstance(found, str):
            return {"not_available": found}
        guess = self.chance(config.metric, int(arrays["labels"].max()) + 1)
        value = scored(config, found.predictions, truth, groups, guess)
        return result_of(config, value, len(truth), found.details)


class FeatureClassifier(ClassPredictor):
    """Learns classes from features; its trivial baseline does the same on raw pixels."""

    @abstractmethod
    def fit(self, train: Part, valid: Part, test: Part, metric: Metric) -> Predicted:
        """Learn from the training part, choose by `metric` on the validation part (with its value
        as the detail `validation`), predict the test part, whose labels decide nothing."""

    def predict(self, arrays: Arrays, metric: Metric) -> Predicted | str:
        import numpy as np

        rows = [arrays["split"] == part for part in ("train", "valid", "test")]
        train, valid, test = ((arrays["features"][r], arrays["labels"][r]) for r in rows)
        if len(np.unique(train[1])) < 2 or not len(valid[1]):
            return "too few labelled examples to train on and to choose by"
        return self.fit(train, valid, test, metric)

    def baseline(self, data: Trivial) -> Baseline:
        return data.of_labels(self.fit)


def device_of(evaluation: EvaluationConfig) -> str:
    """cuda where each task that runs a model asks for a GPU, else cpu."""
    return "cuda" if evaluation.gpus > 0 else "cpu"
