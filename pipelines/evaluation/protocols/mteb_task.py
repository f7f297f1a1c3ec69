"""A task of mteb (MTEB, MIEB) by mteb's own code; its main score, with our interval where the task
keeps what it found for each example."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from momo_platform.stages import UserError
from pipelines.config import EvaluationConfig
from pipelines.evaluation.configs import ProtocolConfig
from pipelines.evaluation.datasets import DataSetPlace
from pipelines.evaluation.items import SelfContained, Usable
from pipelines.evaluation.protocol import OnModel, Subject
from pipelines.evaluation.results import Result, settings_of
from pipelines.evaluation.tasks import EvaluationTask


class MtebTask(OnModel):
    name = "mteb_task"
    trains = False

    def planned(
        self, task: EvaluationTask, place: DataSetPlace, evaluation: EvaluationConfig
    ) -> ProtocolConfig:
        """mteb knows no limit: its tasks are run as they are."""
        return replace(super().planned(task, place, evaluation), limit=0)

    def needs(self, items: Usable) -> tuple[str, ...]:
        return ("aligned",)

    def chance(self, metric: str, classes: int) -> float | None:
        return None

    def measure(self, subject: Subject) -> Result:
        """`values`: `main_score`, and the same by its own name. mteb's file of results stays beside
        it in the artifact. Raises UserError where the task's data can't be had."""
        import mteb  # pyright: ignore[reportMissingImports]

        from momo.evaluation.mteb_encoder import MODALITIES, MtebEncoder
        from pipelines.evaluation.mteb_intervals import examples_of

        assert isinstance(subject.items, SelfContained)
        task, config = subject.items.task, subject.config
        if strange := sorted(set(task.metadata.modalities) - MODALITIES):
            return {"not_available": f"the model reads no {', '.join(strange)}"}
        _load(task)
        encoder = MtebEncoder(subject.encoder, subject.encoder.name)
        with tempfile.TemporaryDirectory() as folder:
            (result,) = mteb.evaluate(
                encoder,
                task,
                co2_tracker=False,
                cache=None,
                prediction_folder=folder,
                show_progress_bar=False,
            ).task_results
            file = Path(folder) / task.prediction_file_name
            predictions = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        score = float(result.get_score())
        result.to_disk(subject.context.output / f"{config.place.data}.json")
        count, bounds = examples_of(task, predictions, score, config.seed)
        value = {"value": score, "low": None, "high": None, "chance": None}
        if bounds is not None:
            value |= {"low": bounds[0], "high": bounds[1]}
        details = {"mteb": mteb.__version__, "main_score": task.metadata.main_score}
        values = {config.metric: value, task.metadata.main_score: value}
        return {"values": values, "n": count, "details": details, **settings_of(config)}


def _load(task: Any) -> None:
    """What mteb or the hub's library says of data that can't be had, as an error for the reader."""
    try:
        task.load_data()
    except (OSError, ValueError) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"--tasks mteb/{task.metadata.name}: its data set {task.metadata.dataset.get('path')} "
            f"can't be loaded: {told}; see that this machine reaches it, or has it in its cache"
        ) from error
