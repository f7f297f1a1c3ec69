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
