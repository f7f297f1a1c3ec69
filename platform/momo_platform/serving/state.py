"""What answers requests: a model with its index, loaded and tried together."""

from __future__ import annotations

from dataclasses import dataclass

from momo_platform.serving.config import Precision
from momo_platform.serving.encoder import Loaders, Reader
from momo_platform.serving.index import Index, read_index
from momo_platform.serving.process import ModelProcess


@dataclass(frozen=True)
class State:
    """Replaced as a whole, so that no request sees half of a change."""

    encoder: ModelProcess
    reader: Reader
    index: Index | None


def load_state(
    loaders: Loaders,
    model: str,
    index: str,
    threads: int,
    device: str = "cpu",
    precision: Precision = "fp32",
) -> State:
    """Raises what the loaders raise, in the other process as RuntimeError, and ValueError for an
    index that can't be read or that another model made."""
    reader = loaders.reader(model)
    encoder = ModelProcess(loaders.encoder, model, threads, device, precision)
    encoder.texts(["warm"])
    found = read_index(index) if index else None
    if found is not None and found.model != encoder.name:
        raise ValueError(
            f"the index was made by {found.model}, the model is {encoder.name}: make an index with "
            "this model"
        )
    return State(encoder, reader, found)
