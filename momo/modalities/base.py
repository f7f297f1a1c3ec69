"""What a modality says of itself on the model's side.

Of `momo.config` types only: it asks the modalities. What `views` and `embedding` give is imported
when they are called, though it imports the modalities itself: plans load no torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from momo.passes import Shape

if TYPE_CHECKING:
    from torch import nn

    from momo.config import ModelConfig, TaskConfig
    from momo.views import Views

Batch = Mapping[str, Any]
EXTRA = "extra_embeddings."
"""What the names of extra modalities' parameters begin with."""


class Modality(ABC):
    """How every model takes in one modality. Methods import torch where they use it."""

    name: ClassVar[str]
    rows_by: ClassVar[str]
    """A tensor of its batches that has a row for each sample."""
    drawn_by: ClassVar[str] = "noise"
    """A tensor of its batches, as `on_host` leaves them, that is random in each row: `Views.draw`
    makes random numbers of it."""

    @abstractmethod
    def views(self) -> type[Views]:
        """What objectives see of a batch."""

    @abstractmethod
    def shape(self, model: ModelConfig, rows: int, length: int) -> Shape:
        """Of `rows` samples in a plan, whose texts, where they have some, have `length` tokens."""

    @abstractmethod
    def shapes(self, batch: Batch) -> list[Shape]:
        """Of a batch: samples of equal shape together."""

    def rows(self, batch: Batch) -> int:
        """Samples of a batch, as loaders make it or `on_host` leaves it."""
        return len(batch[self.rows_by])

    def on_host(self, batch: Batch, model: ModelConfig, task: TaskConfig) -> dict[str, Any]:
        """A loader's batch made ready on the CPU; one that is ready stays as it is."""
        return dict(batch)


class ExtraModality(Modality):
    """One that brings its embedding: models have it that name it in
    `ModelConfig.extra_modalities`."""

    @property
    def part(self) -> str:
        """Its embedding, among `momo.cost.parameter_counts`."""
        return EXTRA + self.name

    @abstractmethod
    def embedding(self, model: ModelConfig) -> nn.Module:
        """What makes tokens [B, T, width]. Its linear layers and norms are drawn as the model's
        are, and then its method `reset()` fills the other parameters."""

    @abstractmethod
    def embedding_parameters(self, model: ModelConfig) -> int:
        """How many it has, without torch."""
