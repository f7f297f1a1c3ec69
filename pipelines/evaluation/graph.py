"""A model and the tasks to run on it → stages. Light: the driver imports it, torch comes later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from momo_platform.stages import Resources, Stage, UserError
from pipelines.config import EvaluationConfig
from pipelines.evaluation import run
from pipelines.evaluation.configs import FeaturesConfig
from pipelines.evaluation.datasets import DataSet, DataSetPlace, locate
from pipelines.evaluation.protocol import OnFeatures, device_of
from pipelines.evaluation.protocols import protocol_named
from pipelines.evaluation.tasks import KINDS, TASKS, EvaluationTask

_CODE = ("momo.evaluation", "pipelines.evaluation")
_NO_SOURCE = {f"own-{kind}": f"no --{kind}.source was given" for kind in KINDS}


@dataclass(frozen=True)
class Suite:
    """`nodes`: the stage of each task that can run; `missing`: why the others can't."""

    nodes: Mapping[str, Stage]
    missing: Mapping[str, str]

    @property
    def stages(self) -> dict[str, Stage]:
        """By stage name, without repetition."""
        return {stage.name: stage for stage in self.nodes.values()}

    @property
    def names(self) -> dict[str, str]:
        """Task → its stage's name."""
        return {task: stage.name for task, stage in self.nodes.items()}


@dataclass(frozen=True)
class _Making:
    """What all stages on one model have in common; `tag` ends their names. `aligned`: data sets
    whose features hold vectors in the space of texts and pictures, too."""

    model: Stage
    tag: str
    evaluation: EvaluationConfig
    sources: Mapping[str, Stage]
    aligned: frozenset[str]

    def lacking(self, data: DataSet) -> str:
        """Why a data set that is read from the graph's own stages can't be; empty where it can."""
        absent = [role for role in data.inputs if role not in self.sources]
        if not absent:
            return ""
        return _NO_SOURCE.get(absent[0], f"needs {', '.join(absent)}, which this run does not make")

    def inputs(self, data: DataSet) -> dict[str, Stage]:
        return {"model": self.model, **{role: self.sources[role] for role in data.inputs}}

    @property
    def on_model(self) -> Resources:
        return Resources(
            num_cpus=self.evaluation.cpus, num_gpus=self.evaluation.gpus, gives_way=True
        )

    def features(self, data: DataSet, place: DataSetPlace) -> Stage:
        """Computed once for all protocols on the data set."""
        config = FeaturesConfig(
            place,
            self.evaluation.limit,
            data.name in self.aligned,
            self.evaluation.threads,
            self.evaluation.precision,
            device_of(self.evaluation),
        )
        return Stage(
            f"features-{data.name}-{self.tag}",
            run.features,
            config,
            self.inputs(data),
            resources=self.on_model,
            code=_CODE,
        )

    def stage(self, task: EvaluationTask, place: DataSetPlace, features: Stage | None) -> Stage:
        """The task's protocol on its data set; on `features`, where there are some."""
        name = f"{task.node}-{self.tag}"
        config = protocol_named(task.protocol).planned(task, place, self.evaluation)
        if features is not None:
            inputs = {"features": features}
            cpus = Resources(num_cpus=self.evaluation.cpus, gives_way=True)
            return Stage(
                name, run.on_features, config, inputs, version=2, resources=cpus, code=_CODE
            )
        inputs, on_model = self.inputs(task.data_set), self.on_model
        return Stage(name, run.on_model, config, inputs, version=3, resources=on_model, code=_CODE)


def build_suite(
    model: Stage,
    tag: str,
    tasks: Sequence[EvaluationTask],
    evaluation: EvaluationConfig,
    sources: Mapping[str, Stage],
) -> Suite:
    """Stages for `tasks` on `model`, whose artifact holds `model/`; `tag` ends their names.

    `sources` are the graph's own stages by role, for the demo's tasks.
    """
    # Of any task, chosen or not: a task more must not make the others' features anew.
    known = (*TASKS.values(), *(t for t in tasks if t.given))
    aligned = frozenset(t.data for t in known if protocol_named(t.protocol).embeddings)
    making = _Making(model, tag, evaluation, sources, aligned)
    nodes: dict[str, Stage] = {}
    missing: dict[str, str] = {}
    features: dict[str, Stage] = {}
    made: dict[str, Stage] = {}
    for task in tasks:
        data = task.data_set
        place = locate(data, evaluation.data)
        if isinstance(place, str):
            missing[task.name] = place
            continue
        if lacking := making.lacking(data):
            missing[task.name] = lacking
            continue
        if task.node not in made:
            of_data = None
            if isinstance(protocol_named(task.protocol), OnFeatures):
                of_data = features.setdefault(task.data, making.features(data, place))
            made[task.node] = making.stage(task, place, of_data)
        nodes[task.name] = made[task.node]
    return Suite(nodes, missing)


def check_unique(names: Sequence[str], message: str) -> None:
    """Raise UserError, `message` with the names in it, for names that come more than once."""
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise UserError(message.format(", ".join(twice)))
