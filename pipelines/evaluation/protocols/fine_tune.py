"""The whole encoder, trained further: classes, a number, sentence pairs, questions about pictures;
the epoch is chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pipelines.config import EvaluationConfig
from pipelines.evaluation.configs import ProtocolConfig, Tuning
from pipelines.evaluation.datasets import DataSetPlace
from pipelines.evaluation.items import Labelled, Texts, Usable
from pipelines.evaluation.protocol import Baseline, Given, OnModel, Subject
from pipelines.evaluation.protocols.linear_probe import LinearProbe
from pipelines.evaluation.results import Result
from pipelines.evaluation.tasks import EvaluationTask

if TYPE_CHECKING:
    from pipelines.evaluation.trivial import Trivial


class FineTune(OnModel):
    name = "fine_tune"
    given = (
        Given("classes", "fine-tune", "raw pixels"),
        Given("texts", "fine-tune", "TF-IDF"),
        Given("questions", "vqa", "commonest answer"),
    )

    def planned(
        self, task: EvaluationTask, place: DataSetPlace, evaluation: EvaluationConfig
    ) -> ProtocolConfig:
        config = super().planned(task, place, evaluation)
        return replace(config, save_classifier=evaluation.save_classifiers)

    def tuning(self, task: EvaluationTask, evaluation: EvaluationConfig) -> Tuning:
        """The row's values; of those that options of the evaluation set, these."""
        rate, decay = evaluation.learning_rate, evaluation.layer_decay
        tuning = Tuning(task.epochs, task.batch_size, rate, task.dropout, decay)
        return replace(tuning, **{name: getattr(evaluation, o) for name, o in task.set_by})

    def needs(self, items: Usable) -> tuple[str, ...]:
        if not isinstance(items, Texts):
            return ("image",)
        return ("text",) if items.pictures is None else ("pair",)

    def measure(self, subject: Subject) -> Result:
        from pipelines.evaluation.fine_tuning import fine_tuned

        items = subject.items
        assert isinstance(items, Labelled | Texts)
        absent = [p for p in ("train", "valid", "test") if not (items.split == p).any()]
        if absent:
            return {"not_available": f"there is no {absent[0]} example"}
        return fine_tuned(subject, items, self.chance)

    def baseline(self, data: Trivial) -> Baseline:
        return data.of_labels(LinearProbe().fit)
