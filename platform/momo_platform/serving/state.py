"""What answers requests: a model with its index, loaded and tried together."""

from __future__ import annotations

from dataclasses import dataclass

from momo_platform.serving.encoder import Encoder, Load
from momo_platform.serving.index import Index, read_index


@dataclass(frozen=True)
class State:
    """Replaced as a whole, so that no request sees half of a change."""

    encoder: Encoder
    index: Index | None


def load_state(load: Load, model: str, index: str, threads: int) -> State:
    """Raises what `load` raises, and ValueError for an index that can't be read or that another
    model made."""
    encoder = load(model, threads)
    encoder.texts(["warm"])
    found = read_index(index) if index else None
    if found is not None and found.model != encoder.name:
        raise ValueError(
            f"the index was made by {found.model}, the model is {encoder.name}: make an index with "
            "this model"
        )
    return State(encoder, found)
