"""A small task with a head that one modality alone uses."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from momo_platform.data.held_out_rows import HeldOutRows


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


class ToyRows:
    """So many held-out rows; `HeldOutRows` reads them as it reads shards."""

    def __init__(self, name, rows):
        self.name, self.rows, self.row_group = name, rows, 256

    def __len__(self):
        return self.rows

    def read(self, rows):
        return ToyLoader(self.name, self.rows).batch(10**6), rows


def toy_batch(found, seeds):
    """Some rows of a batch of all; a row counts by its seed, as masks are drawn."""
    batch, rows = found
    used = (seeds % np.uint64(5) != 0).astype(np.float32)
    return {"x": batch["x"][rows], "y": batch["y"][rows], "used": used}


def toy_held_out(rows, rank=0, world_size=1, unit=1):
    ranks = {"rank": rank, "world_size": world_size, "unit": unit}
    return {n: HeldOutRows(ToyRows(n, count), toy_batch, **ranks) for n, count in rows.items()}
