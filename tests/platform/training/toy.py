"""A small task with a head that one modality alone uses."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class ToyLoss:
    sum: torch.Tensor
    count: torch.Tensor
    metrics: dict = field(default_factory=dict)


class ToyTask(nn.Module):
    weights = {"a": 1.0, "b": 0.5}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(6, 8)
        self.head_a = nn.Linear(8, 1)
        self.head_b = nn.Linear(8, 1)

    def forward(self, modality, batch):
        hidden = torch.tanh(self.body(batch["x"]))
        head = self.head_a if modality == "a" else self.head_b
        used = batch["used"]
        error = (head(hidden).squeeze(1) - batch["y"]).square() * used
        return {modality: ToyLoss(error.sum(), used.sum())}


class ToyLoader:
    """Batches as a pure function of the step; ranks take their slices; counts differ by row."""

    def __init__(self, name: str, size: int, rank: int = 0, world_size: int = 1) -> None:
        self.name, self.size, self.rank, self.world = name, size, rank, world_size
        self.seconds_waiting = 0.0

    def batch(self, step):
        generator = np.random.Generator(np.random.Philox(key=[ord(self.name), step]))
        x = generator.normal(size=(self.size, 6)).astype(np.float32)
        used = (generator.random(self.size) < 0.6).astype(np.float32)
        used[0] = 1.0
        rows = slice(self.rank * self.size // self.world, (self.rank + 1) * self.size // self.world)
        return {"x": x[rows], "y": x.sum(axis=1)[rows], "used": used[rows]}

    def iterate(self, start):
        step = start
        while True:
            yield self.batch(step)
            step += 1

    def close(self):
        pass
