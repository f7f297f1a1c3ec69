"""An exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from momo_platform.training.parallel import local_part, place_like, whole


class WeightAverage:
    """`average ← d · average + (1 - d) · weight` after each update.

    d = min(decay, (1 + n) / (10 + n)) after n updates, so that a short run does not remember its
    random start. Frozen parameters are not averaged; sharded ones are averaged shard by shard.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self._averages = {n: p.detach().clone() for n, p in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, average in self._averages.items():
            weight = local_part(self._parameters[name].detach())
            local_part(average).lerp_(weight, 1.0 - decay)

    def snapshot(self) -> dict[str, Tensor]:
        """Whole averages on the CPU by parameter name, and the count. Sharded: on all ranks."""
        values = {n: whole(a).cpu().clone() for n, a in self._averages.items()}
        return values | {"updates": torch.tensor(self.updates)}

    def restore(self, values: Mapping[str, Tensor]) -> None:
        """Inverse of `snapshot`. Raises `KeyError` on another model's."""
        self.updates = int(values["updates"])
        for name, average in self._averages.items():
            local_part(average).copy_(local_part(place_like(values[name], average)))

    @torch.no_grad()
    def apply(self) -> None:
        """Put the averages in the place of the weights: the end of a run."""
        for name, parameter in self._parameters.items():
            local_part(parameter.detach()).copy_(local_part(self._averages[name]))
