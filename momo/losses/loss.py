"""A loss before division."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """`sum` (scalar, differentiable) over `count` terms (scalar); `metrics` are means already.

    Whoever trains divides by the count over all ranks and micro-batches, and weighs metrics by it.
    """

    sum: Tensor
    count: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)

    def named(self, name: str) -> Loss:
        """The same loss with its metrics called `<name>_<metric>`."""
        return Loss(self.sum, self.count, {f"{name}_{k}": v for k, v in self.metrics.items()})

    def of_whole(self, count: Tensor) -> Loss:
        """As part of a batch's loss that has this count; the metrics weigh as much as the part
        counts, so that those of all parts add up."""
        share = self.count / count.clamp_min(1.0)
        return Loss(self.sum, count, {k: v * share for k, v in self.metrics.items()})
