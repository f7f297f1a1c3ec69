"""An exponential moving average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch import _foreach_add_ as foreach_add_  # pyright: ignore[reportPrivateImportUsage]
from torch import _foreach_lerp_ as foreach_lerp_  # pyright: ignore[reportPrivateImportUsage]
from torch import _foreach_mul_ as foreach_mul_  # pyright: ignore[reportPrivateImportUsage]
from torch import _foreach_sub as foreach_sub  # pyright: ignore[reportPrivateImportUsage]

from momo_platform.training.parallel import copies_on_host, local_part, place_like


def lerp_by_tensor(values: list[Tensor], towards: list[Tensor], share: Tensor) -> None:
    """`values ← values + share · (towards - values)`, with a share that only the device knows: of
    such a one torch has no lerp over lists."""
    steps = foreach_sub(towards, values)
    foreach_mul_(steps, share.to(values[0].dtype))
    foreach_add_(values, steps)


class WeightAverage:
    """`average ← d · average + (1 - d) · weight` after each update.

    d = min(decay, (1 + n) / (10 + n)) after n updates, so that a short run does not remember its
    random start. Frozen parameters are not averaged; sharded ones are averaged shard by shard.
    The count of updates lies on the device, where it is decided whether a step counts.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self._averages = {n: p.detach().clone() for n, p in self._parameters.items()}
        device = next(iter(self._averages.values())).device
        self._updates = torch.zeros((), dtype=torch.int64, device=device)

    @torch.no_grad()
    def update(self, finite: Tensor | None = None) -> None:
        """Take in the weights as they are now; nothing where `finite` (no dimension, on the
        device) is 0. The host does not wait for the device."""
        counted = self._updates.double()
        share = 1.0 - ((1.0 + counted) / (10.0 + counted)).clamp_max(self.decay)
        if finite is not None:
            share = share * finite
        averages = [local_part(a) for a in self._averages.values()]
        weights = [local_part(p.detach()) for p in self._parameters.values()]
        if share.device.type == "cpu":  # one pass over the memory; nothing to wait for
            foreach_lerp_(averages, weights, float(share))
        else:
            lerp_by_tensor(averages, weights, share)
        self._updates += 1 if finite is None else finite.to(torch.int64)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Averages by parameter name, sharded or not, and the count."""
        yield from self._averages.items()
        yield "updates", self._updates

    def snapshot(self) -> dict[str, Tensor]:
        """Whole averages on the CPU by parameter name, and the count. Sharded: on all ranks."""
        return copies_on_host(self.tensors())

    def restore(self, values: Mapping[str, Tensor]) -> None:
        """Inverse of `snapshot`. Raises `KeyError` on another model's."""
        self._updates.copy_(values["updates"])
        for name, average in self._averages.items():
            local_part(average).copy_(local_part(place_like(values[name], average)))

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The averages in the place of the weights, which come back unchanged afterwards."""
        weights = {n: local_part(p.detach()).clone() for n, p in self._parameters.items()}
        self.apply()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    local_part(parameter.detach()).copy_(weights[name])

    @torch.no_grad()
    def apply(self) -> None:
        """Put the averages in the place of the weights: the end of a run."""
        for name, parameter in self._parameters.items():
            local_part(parameter.detach()).copy_(local_part(self._averages[name]))
