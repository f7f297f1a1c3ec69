"""What the stages of an evaluation are told."""

from __future__ import annotations

from dataclasses import dataclass, field

from momo.precision import FloatPrecision
from momo_platform.training.config import MECHANICS
from pipelines.evaluation.datasets import DataSetPlace


@dataclass(frozen=True)
class FeaturesConfig:
    """`embeddings`: also vectors in the space of texts and pictures. `device`: cuda for a task that
    asked for a GPU, else cpu."""

    place: DataSetPlace
    limit: int = 0
    embeddings: bool = False
    threads: int = field(default=1, metadata=MECHANICS)
    precision: FloatPrecision = "fp32"
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
    place: DataSetPlace
    seed: int
    limit: int = 0
    tuning: Tuning | None = None
    threads: int = field(default=1, metadata=MECHANICS)
    precision: FloatPrecision = "fp32"
    device: str = field(default="cpu", metadata=MECHANICS)
    ks: tuple[int, ...] = ()
    save_classifier: bool = False


@dataclass(frozen=True)
class MeasuredTask:
    """One task and where its data lie."""

    name: str
    protocol: str
    metric: str
    place: DataSetPlace


@dataclass(frozen=True)
class BaselinesConfig:
    """What the trivial methods are measured on."""

    seed: int
    limit: int
    tasks: tuple[MeasuredTask, ...]
