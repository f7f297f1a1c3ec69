"""Objective settings as a frozen dataclass; with the model's shape, which is in
`momo.model_config`. Imports no torch."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

from momo.modalities import MODALITIES
from momo.model_config import SIZES, Activation, ModelConfig, exported_shape
from momo.objectives import OBJECTIVES, Objective

__all__ = ["SIZES", "Activation", "ModelConfig", "TaskConfig", "exported_shape"]

_RATIOS = (
    *("image_mask_ratio", "text_mask_ratio", "pair_image_mask_ratio", "pair_text_mask_ratio"),
    "matching_fraction",
)


@dataclass(frozen=True)
class TaskConfig:
    """Which modalities a training stage sees, the weight of each objective and its masking.

    A weight of 0 switches the objective off and spares its computation. `matching_fraction` is
    the share of a batch's rows that get an in-batch hard negative, drawn among `matching_group`
    neighbours: a worker's batch is whole groups, so that losses do not depend on how many workers
    there are.
    `shared_passes`: one joint pass, both modalities masked, serves masked modelling and matching.
    Without, each has its own, where only what it predicts is masked: more computing, for ablations.
    `contrastive_chunk` above 0 embeds that many rows at a time for the contrastive loss and again
    in the backward pass, so that memory no longer grows with the batch; the loss stays the same.
    `contrastive_prefixes`: the contrastive loss is also that of so many first numbers of the
    vectors, each length as much as the whole: they can be cut there later (Matryoshka
    representation learning, arXiv 2205.13147).
    `extra_objectives`: weights of objectives that have no field here, by name, and their own
    options as NAME.OPTION.
    """

    modalities: tuple[str, ...] = ("image", "text", "pair")
    mim: float = 1.0
    mlm: float = 1.0
    contrastive: float = 1.0
    matching: float = 1.0
    pair_mlm: float = 1.0
    pair_mim: float = 1.0
    image_mask_ratio: float = 0.75
    text_mask_ratio: float = 0.15
    pair_image_mask_ratio: float = 0.5
    pair_text_mask_ratio: float = 0.3
    matching_fraction: float = 0.5
    matching_group: int = 32
    shared_passes: bool = True
    # Changes how the loss is computed, not what: no part of a fingerprint.
    contrastive_chunk: int = field(default=0, metadata={"semantic": False})
    contrastive_prefixes: tuple[int, ...] = field(default=(), metadata={"absent_at": ()})
    extra_objectives: dict[str, float] = field(
        default_factory=dict, hash=False, metadata={"absent_at": {}}
    )

    def __post_init__(self) -> None:
        if unknown := [m for m in self.modalities if m not in MODALITIES]:
            raise ValueError(f"task.modalities: unknown {unknown}; known: {list(MODALITIES)}")
        self._check_extra()
        for modality in self.modalities:
            if not self.in_use(modality):
                names = [name for name, one in OBJECTIVES.items() if one.modality == modality]
                raise ValueError(
                    f"task.modalities has {modality!r} but no objective of it has a weight above "
                    f"0: raise one of {names} or drop the modality"
                )
        if self.contrastive_chunk < 0:
            raise ValueError(f"task.contrastive_chunk={self.contrastive_chunk}: give 0 or more")
        lengths = self.contrastive_prefixes
        if any(n < 1 for n in lengths) or list(lengths) != sorted(set(lengths)):
            raise ValueError(
                f"task.contrastive_prefixes={list(lengths)}: give lengths above 0, in rising order"
            )
        if self.matching_group < 2:
            raise ValueError(f"task.matching_group={self.matching_group}: give at least 2")
        for name in OBJECTIVES:
            if (value := self._weight(name)) < 0:
                raise ValueError(f"task.{name}={value} must not be negative")
            if not math.isfinite(value):
                raise ValueError(f"task.{name}={value} must be finite")
        for name in _RATIOS:
            if not 0.0 <= (value := getattr(self, name)) <= 1.0:
                raise ValueError(f"task.{name}={value} must lie between 0 and 1")

    def _check_extra(self) -> None:
        own = {f.name for f in dataclasses.fields(self)}
        known = [s for name, one in OBJECTIVES.items() if name not in own for s in one.settings]
        if unknown := sorted(set(self.extra_objectives) - set(known)):
            raise ValueError(f"task.extra_objectives: unknown {unknown}; known: {known}")
        for name in self.extra_objectives:
            modality = OBJECTIVES[name.partition(".")[0]].modality
            if modality not in self.modalities:
                raise ValueError(
                    f"task.extra_objectives has {name!r}, which is of {modality!r}, and "
                    f"task.modalities has {list(self.modalities)}: add it there, or leave it out"
                )

    def _weight(self, name: str) -> float:
        return getattr(self, name, self.extra_objectives.get(name, 0.0))

    def in_use(self, modality: str | None = None) -> tuple[Objective, ...]:
        """The objectives with a weight, of one modality or of all that the stage has, in the order
        in which their losses are added up."""
        return tuple(
            one.with_options(self.extra_objectives)
            for chosen in (self.modalities if modality is None else (modality,))
            for name, one in OBJECTIVES.items()
            if one.modality == chosen and self._weight(name) > 0
        )

    @property
    def objectives(self) -> dict[str, float]:
        """Objective name → weight, those in use only."""
        return {one.name: self._weight(one.name) for one in self.in_use()}

    def rows_together(self, modality: str) -> int:
        """How many neighbours of a global batch stay on one worker."""
        return math.lcm(*(one.group(self) for one in self.in_use(modality)))
