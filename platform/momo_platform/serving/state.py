"""What answers requests: a model with its index, loaded and tried together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from momo_platform.serving.batches import Batches
from momo_platform.serving.config import Precision
from momo_platform.serving.encoder import ClassifierReader, InputReader, Loaders
from momo_platform.serving.index import Index, read_index
from momo_platform.serving.items import Item
from momo_platform.serving.process import ModelProcess


@dataclass(frozen=True)
class State:
    """Replaced as a whole, so that no request sees half of a change."""

    encoder: ModelProcess
    reader: InputReader
    index: Index | None
    classifier: ModelProcess | None = None
    classifier_reader: ClassifierReader | None = None
    batches: Mapping[str, Batches[Sequence[Any], np.ndarray]] = field(default_factory=dict)
    """In front of the models, by what they take: a replica's."""

    def classify(self, items: Sequence[Item]) -> np.ndarray:
        """Probabilities float32 [N, classes] of items as the classifier takes them."""
        reader, classifier = self.classifier_reader, self.classifier
        assert reader is not None
        assert classifier is not None
        texts = [item.text or () for item in items] if reader.takes_texts else None
        pictures = [item.picture for item in items] if reader.takes_pictures else None
        return classifier.classify(texts, pictures)


def load_state(
    loaders: Loaders,
    model: str,
    index: str,
    threads: int,
    device: str = "cpu",
    precision: Precision = "fp32",
    classifier: str = "",
) -> State:
    """Raises what the loaders raise, in the other process as RuntimeError, and ValueError for an
    index that can't be read, has vectors of another width, or that another model or another
    precision made."""
    reader = loaders.reader(model)
    encoder = ModelProcess(loaders.encoder, model, threads, device, precision)
    encoder.texts([tokens for tokens, _ in reader.counted(["warm"])])
    found = read_index(index) if index else None
    if found is not None and found.model != encoder.name:
        raise ValueError(
            f"the index was made by {found.model}, the model is {encoder.name}: make an index with "
            "this model"
        )
    if found is not None and found.width not in (0, encoder.dimensions):
        raise ValueError(
            f"the index has vectors of {found.width} numbers, those of the model {encoder.name} "
            f"have {encoder.dimensions}: make an index with this model"
        )
    if found is not None and found.precision not in ("", precision):
        raise ValueError(
            f"the index was made in {found.precision}, the model is served in {precision}: serve "
            f"it with --precision {found.precision}, or make an index with --precision {precision}"
        )
    if not classifier:
        return State(encoder, reader, found)
    if loaders.classifier is None or loaders.classifier_reader is None:
        raise ValueError("these models have no classifiers")
    classes = loaders.classifier_reader(classifier)
    process = ModelProcess(loaders.classifier, classifier, threads, device, precision)
    return State(encoder, reader, found, process, classes)
