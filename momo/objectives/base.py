"""What an objective says of itself.

Of `momo.config` types only: it asks the objectives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from momo.passes import EncoderPass, Shape, View

if TYPE_CHECKING:
    from torch import Tensor, nn

    from momo.config import ModelConfig, TaskConfig
    from momo.losses import Loss
    from momo.micro_batches import Part


@dataclass(frozen=True)
class Objective:
    """One thing that training optimises, on the batches of one modality.

    A subclass's fields are its own options, numbers with defaults, which
    `TaskConfig.extra_objectives` sets. Methods import torch where they use it.
    """

    name: ClassVar[str]
    modality: ClassVar[str]
    title: ClassVar[str] = ""
    """For people, in the report; without one it is the name."""
    reads: ClassVar[tuple[View, ...]] = ()
    """The encoder's passes that its loss takes from its batch's `momo.views`."""
    parts: ClassVar[tuple[str, ...]] = ()
    """What else it trains of the model: names of `momo.cost.parameter_counts`."""
    compares: ClassVar[bool] = False
    """Whether rows are compared with each other: of a batch in parts all rows come at once."""
    group_field: ClassVar[str] = ""
    """The field of `TaskConfig` that says how many neighbours of a batch stay on one worker."""

    @property
    def settings(self) -> list[str]:
        """What `TaskConfig.extra_objectives` may have of it."""
        return [self.name, *(f"{self.name}.{f.name}" for f in fields(self))]

    def with_options(self, given: Mapping[str, float]) -> Self:
        """With those of its options that are `given` as NAME.OPTION."""
        keys = {f.name: f"{self.name}.{f.name}" for f in fields(self)}
        chosen = {option: given[key] for option, key in keys.items() if key in given}
        return replace(self, **chosen) if chosen else self

    def loss(self, views: Any) -> Loss:
        """Of a batch: `views` is the class of `momo.views` for its modality."""
        raise NotImplementedError

    def head(self, model: ModelConfig) -> nn.Module | None:
        """A head of its own, `views.heads[name]` later: drawn alike for every seed, kept in
        checkpoints and not in the finished model."""
        return None

    def head_parameters(self, model: ModelConfig) -> int:
        """How many the head has, without torch."""
        return 0

    def passes(self, config: TaskConfig, shape: Shape) -> list[EncoderPass]:
        """What its loss sends through the encoder beside what it `reads`."""
        return []

    def exchanged_bytes(self, model: ModelConfig, rows: int) -> float:
        """What workers send each other of a global batch beside gradients of weights."""
        return 0.0

    def group(self, config: TaskConfig) -> int:
        """How many neighbours of a batch stay together."""
        return getattr(config, self.group_field) if self.group_field else 1

    def leave(self, views: Any, part: Part) -> None:
        """Before a batch's parts come: note in `part.drawn` what they need to know of the whole."""

    def whole_count(self, loss: Loss, part: Part, rows: int) -> Tensor:
        """The count of the whole batch, of which the part with this loss has `rows`."""
        return loss.count * (part.rows / rows)

    def rows(self, views: Any) -> Mapping[str, Tensor]:
        """Tensors [B, …] by name that `measure` takes of all held-out rows together."""
        return {}

    def measure(self, rows: Mapping[str, Tensor]) -> dict[str, float]:
        """What held-out rows show beside the loss, by name."""
        return {}
