"""What training costs on 1 to many GPUs: time, GPU hours, bytes between them. No torch, no Ray.

A step is computing, divided by the GPUs, and communication: the ring all-reduce of the fp32
gradients (Patarasu and Yuan, 2009: 2 (n - 1) / n of them over each link), of which what fits into
the backward pass of the last micro-batch is hidden, and the contrastive loss's features, gathered
and their gradients scattered, of which nothing is. Ranks wait for nobody else here: no stragglers,
no input, no checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from momo.config import ModelConfig, TaskConfig
from momo.cost import passes_of, trained_parameters, training_flops
from momo_platform.training.config import ONE_AT_A_TIME
from momo_platform.training.hardware import Accelerator
from pipelines.estimates import estimate_stage
from pipelines.modalities import MODALITIES
from pipelines.training import StageRecipe

_GRADIENT_BYTES = 4
_BACKWARD = 2 / 3  # of forward and backward


@dataclass(frozen=True)
class Links:
    """Bytes a second in one direction, inside a node of `gpus` and out of it, and seconds a hop.

    The defaults are a p4de.24xlarge: NVLink's 300 GB/s a GPU, 400 Gbit/s for the whole node, each
    at `share` of what the data sheet says.
    """

    gpus: int = 8
    inside: float = 300e9
    between: float = 50e9
    share: float = 0.8
    hop_seconds: float = 1e-5

    def slowest(self, count: int) -> float:
        """Of a ring through `count` GPUs."""
        inside_only = count <= self.gpus
        return self.share * (self.inside if inside_only else min(self.inside, self.between))


def ring_bytes(size: float, count: int) -> float:
    """Sent by each of `count` devices in an all-reduce of `size` bytes."""
    return 2 * (count - 1) / count * size


def ring_seconds(size: float, count: int, bandwidth: float, hop_seconds: float) -> float:
    """Of an all-reduce of `size` bytes: 2 (n - 1) hops, each of a `count`th of it."""
    return ring_bytes(size, count) / bandwidth + 2 * (count - 1) * hop_seconds


@dataclass(frozen=True)
class Point:
    """A stage on `gpus`. `seconds` a step; `sent`: bytes a GPU sends a step; `memory` in bytes."""

    stage: str
    gpus: int
    computing: float
    communication: float
    hidden: float
    sent: float
    steps: int
    memory: float

    @property
    def seconds(self) -> float:
        return self.computing + self.communication - self.hidden

    @property
    def hours(self) -> float:
        return self.seconds * self.steps / 3600

    @property
    def efficiency(self) -> float:
        """Computing's share of the time: 1 on one GPU."""
        return self.computing / self.seconds


def _flops(model: ModelConfig, task: TaskConfig, modality: str, rows: int, length: int) -> float:
    return training_flops(model, passes_of(model, task, modality, rows, length))


def project(
    name: str,
    recipe: StageRecipe,
    packed_text_length: int,
    gpus: int,
    device: Accelerator,
    mfu: float,
    links: Links | None = None,
) -> Point:
    """One stage's recipe, its global batch kept, on `gpus` of `device` at `mfu` of their peak."""
    links = links or Links()
    model, task, train = recipe.model, recipe.task, recipe.train
    scaling = replace(train.scaling, num_workers=gpus, min_workers=0)
    recipe = replace(recipe, train=replace(train, scaling=scaling))
    rate = device.flops * mfu
    by_modality = {
        m: _flops(
            *(model, task, m, train.batch_sizes[m]),
            MODALITIES[m].text_length(packed_text_length, recipe.pair_text_length),
        )
        for m in task.modalities
    }
    turns = len(by_modality) if train.gradient_schedule in ONE_AT_A_TIME else 1
    computing = sum(by_modality.values()) / turns / gpus / rate
    gradients = _GRADIENT_BYTES * trained_parameters(model, task)
    features = sum(
        one.exchanged_bytes(model, train.batch_sizes[one.modality]) for one in task.in_use()
    )
    features /= turns
    bandwidth = links.slowest(gpus)
    reduce = ring_seconds(gradients, gpus, bandwidth, links.hop_seconds)
    gather = (gpus - 1) / gpus * features / bandwidth
    last = by_modality[task.modalities[-1]] / gpus / rate
    return Point(
        name,
        gpus,
        computing,
        reduce + gather,
        min(reduce, _BACKWARD * last),
        ring_bytes(gradients, gpus) + (gpus - 1) / gpus * features,
        train.steps,
        estimate_stage(name, recipe, packed_text_length).memory,
    )


def counts_up_to(most: int) -> Sequence[int]:
    """1, 2, 4, … `most`."""
    return [2**i for i in range(most.bit_length()) if 2**i <= most]
