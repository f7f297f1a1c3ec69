"""A model and the tasks to run on it → stages. Light: the driver imports it, torch comes later."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from momo.precision import Precision
from momo_platform.stages import Artifact, Context, Resources, Stage, UserError
from momo_platform.training.config import MECHANICS
from pipelines.config import EvaluationConfig
from pipelines.evaluation.tasks import FEATURE_PROTOCOLS, KINDS, TASKS, DataSet, Task

_MOST_LISTED = 20_000
_CODE = ("momo.evaluation", "pipelines.evaluation")
_REGISTERED_KS = (1, 5, 10)
_NO_SOURCE = {f"own-{kind}": f"no --{kind}.source was given" for kind in KINDS}


@dataclass(frozen=True)
class Place:
    """A data set: `digest` of its listing; its folder (a URI of a given set) does not matter.
    `loader`: of a set that was given on the command line; others are in the registry."""

    data: str
    digest: str = ""
    folder: str = field(default="", metadata=MECHANICS)
    loader: str = ""


@dataclass(frozen=True)
class FeaturesConfig:
    """`embeddings`: also vectors in the space of texts and pictures. `device`: cuda for a task that
    asked for a GPU, else cpu."""

    place: Place
    limit: int = 0
    embeddings: bool = False
    threads: int = field(default=1, metadata=MECHANICS)
    precision: Precision = "fp32"
    device: str = field(default="cpu", metadata=MECHANICS)


@dataclass(frozen=True)
class Tuning:
    """How a model is fine-tuned; `limit`: training examples that are used, evenly spread."""

    epochs: int
    batch_size: int
    learning_rate: float
    dropout: float
    layer_decay: float
    limit: int = 0


@dataclass(frozen=True)
class ProtocolConfig:
    """One protocol on one data set; `precision` and `device`: where the protocol runs the model.

    `ks` of retrieval; empty: those that fit the number of pairs. `save_classifier`: the fine-tuned
    model goes to `classifier/` in the artifact.
    """

    protocol: str
    metric: str
    place: Place
    seed: int
    limit: int = 0
    tuning: Tuning | None = None
    threads: int = field(default=1, metadata=MECHANICS)
    precision: Precision = "fp32"
    device: str = field(default="cpu", metadata=MECHANICS)
    ks: tuple[int, ...] = ()
    save_classifier: bool = False


def run_features(
    config: FeaturesConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: inputs model and what the data needs → arrays, `.npy`; once for all tasks."""
    from pipelines.evaluation import features as run

    return run.features(config, inputs, context)


def run_on_features(
    config: ProtocolConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: input features → {"values": {metric: {value, low, high, chance}}, "n", "details"}.

    low and high: 95 % bootstrap; chance: what a guess reaches, or None; n: test examples. Or
    {"not_available": why}.
    """
    from pipelines.evaluation import features as run

    return run.on_features(config, inputs, context)


def run_on_model(
    config: ProtocolConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: as `run_on_features`, from the model and the data."""
    from pipelines.evaluation import features as run

    return run.on_model(config, inputs, context)


def _entries(path: Path) -> Iterator[str]:
    """A line a file, sorted."""
    if path.is_file():
        status = path.stat()
        yield f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\n"
        return
    for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            status = os.stat(os.path.join(folder, name))
            place = os.path.relpath(os.path.join(folder, name), path)
            yield f"{place}\0{status.st_size}\0{status.st_mtime_ns}\n"


def locate(data: DataSet, folder: str) -> Place | str:
    """Where a data set lies, or why it is not available and how to get it.

    The digest is over names, sizes and times of the first 20,000 files of each place that it needs.
    """
    if data.uri:
        return Place(data.name, data.digest, data.uri, data.loader)
    if not data.needs:
        return Place(data.name)
    if not folder:
        return f"no data folder given (--data); {data.how_to_get}"
    root = Path(folder).expanduser().absolute()
    if missing := [n for n in data.needs if not (root / n).exists()]:
        return f"{', '.join(missing)} not in the folder of --data; {data.how_to_get}"
    digest = hashlib.sha256()
    for need in data.needs:
        for line in islice(_entries(root / need), _MOST_LISTED):
            digest.update(line.encode("utf-8", "surrogateescape"))
    return Place(data.name, digest.hexdigest()[:16], str(root))


@dataclass(frozen=True)
class Suite:
    """`nodes`: the stage of each task that can run; `missing`: why the others can't."""

    nodes: Mapping[str, Stage]
    missing: Mapping[str, str]

    @property
    def stages(self) -> dict[str, Stage]:
        """By stage name, without repetition."""
        return {stage.name: stage for stage in self.nodes.values()}


def build_suite(
    model: Stage,
    tag: str,
    tasks: Sequence[Task],
    evaluation: EvaluationConfig,
    sources: Mapping[str, Stage],
) -> Suite:
    """Stages for `tasks` on `model`, whose artifact holds `model/`; `tag` ends their names.

    `sources` are the graph's own stages by role, for the demo's tasks.
    """
    nodes: dict[str, Stage] = {}
    missing: dict[str, str] = {}
    features: dict[str, Stage] = {}
    made: dict[str, Stage] = {}
    on_model = Resources(num_cpus=evaluation.cpus, num_gpus=evaluation.gpus)
    device = "cuda" if evaluation.gpus > 0 else "cpu"
    # Of any task, chosen or not: a task more must not make the others' features anew.
    known = (*TASKS.values(), *(t for t in tasks if t.given))
    aligned = {t.data for t in known if t.protocol in ("zero_shot", "retrieval")}
    for task in tasks:
        data = task.data_set
        place = locate(data, evaluation.data)
        if isinstance(place, str):
            missing[task.name] = place
            continue
        if absent := [role for role in data.inputs if role not in sources]:
            lacking = f"needs {', '.join(absent)}, which this run does not make"
            missing[task.name] = _NO_SOURCE.get(absent[0], lacking)
            continue
        inputs = {"model": model, **{role: sources[role] for role in data.inputs}}
        name = f"{task.node}-{tag}"
        if name in made:
            nodes[task.name] = made[name]
            continue
        ranked = task.protocol in ("retrieval", "reranked")
        metric = "" if ranked else task.metric
        config = ProtocolConfig(
            task.protocol,
            metric,
            place,
            evaluation.seed,
            evaluation.limit,
            _tuning(task, evaluation),
            evaluation.threads,
            ks=_REGISTERED_KS if ranked and "_r@" in task.metric else (),
        )
        if task.protocol in FEATURE_PROTOCOLS:
            if task.data not in features:
                features[task.data] = Stage(
                    f"features-{task.data}-{tag}",
                    run_features,
                    FeaturesConfig(
                        place,
                        evaluation.limit,
                        task.data in aligned,
                        evaluation.threads,
                        evaluation.precision,
                        device,
                    ),
                    inputs,
                    resources=on_model,
                    code=_CODE,
                )
            stage = Stage(
                name,
                run_on_features,
                config,
                {"features": features[task.data]},
                version=2,
                resources=Resources(num_cpus=evaluation.cpus),
                code=_CODE,
            )
        else:
            saved = evaluation.save_classifiers and task.protocol == "fine_tune"
            config = replace(
                config, precision=evaluation.precision, device=device, save_classifier=saved
            )
            stage = Stage(
                name, run_on_model, config, inputs, version=3, resources=on_model, code=_CODE
            )
        made[name] = nodes[task.name] = stage
    return Suite(nodes, missing)


def _tuning(task: Task, evaluation: EvaluationConfig) -> Tuning | None:
    if task.protocol != "fine_tune":
        return None
    epochs, limit = task.epochs, 0
    if task.name == "demo/movie_sentiment":
        epochs = evaluation.sentiment_epochs
    if task.name == "demo/easy_vqa":
        epochs, limit = evaluation.question_epochs, evaluation.question_limit
    return Tuning(
        epochs,
        task.batch_size,
        evaluation.learning_rate,
        task.dropout,
        evaluation.layer_decay,
        limit,
    )


def check_unique(names: Sequence[str], message: str) -> None:
    """Raise UserError, `message` with the names in it, for names that come more than once."""
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise UserError(message.format(", ".join(twice)))
