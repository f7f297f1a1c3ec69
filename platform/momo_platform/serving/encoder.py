"""What the endpoint asks of a model, and the batching in front of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

from momo_platform.serving.config import Precision


class Reader(Protocol):
    """What is done to texts and pictures before the model, in the replica; from any thread."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens that the model reads of each text."""
        ...

    def prepare(self, picture: Image.Image) -> Any:
        """A decoded picture → what the encoder takes, as small as it needs it."""
        ...


class Encoder(Protocol):
    """A model that embeds texts and pictures into one space of unit vectors; called from one thread
    at a time. A result must not depend on what else is in the batch by more than rounding."""

    @property
    def name(self) -> str:
        """The model's, another one for another version."""
        ...

    @property
    def dimensions(self) -> int:
        """Of a vector."""
        ...

    @property
    def device_bytes(self) -> int:
        """Memory that it holds on its GPU; 0 without one. Asked after every batch."""
        ...

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [N, dimensions]."""
        ...

    def pictures(self, pictures: Sequence[Any]) -> np.ndarray:
        """float32 [N, dimensions]."""
        ...

    def attention(self, picture: Any, text: str | None) -> np.ndarray:
        """float32 [rows, columns], sum 1: how much the model looks at each part of the picture."""
        ...


class Classifier(Protocol):
    """A model that gives texts, pictures or pairs of both a class; called as an `Encoder` is.
    `dimensions`: how many classes."""

    @property
    def name(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    @property
    def device_bytes(self) -> int: ...

    def classify(self, texts: Sequence[str] | None, pictures: Sequence[Any] | None) -> np.ndarray:
        """float32 [N, classes], rows of sum 1."""
        ...


class ClassifierReader(Reader, Protocol):
    """Of a classifier: also its classes by name, and whether it takes texts and pictures."""

    classes: Sequence[str]
    takes_texts: bool
    takes_pictures: bool


Load = Callable[[str, int, str, Precision], Encoder]
"""A folder, a number of threads, a device (cpu or cuda) and a precision → the encoder, ready to be
asked; a function of a module, it is called in another process."""


@dataclass(frozen=True)
class Loaders:
    """How an exported model's folder is opened, and a classifier's where there may be one."""

    encoder: Load
    reader: Callable[[str], Reader]
    classifier: Callable[[str, int, str, Precision], Classifier] | None = None
    classifier_reader: Callable[[str], ClassifierReader] | None = None


def by_length(
    encode: Callable[[Sequence[Any]], np.ndarray],
    items: Sequence[Any],
    lengths: Sequence[int],
    largest: float = 1.5,
) -> np.ndarray:
    """Encode in buckets whose longest is at most `largest` times their shortest (and 8 more), so
    that short texts don't pay for long ones' padding. Rows come back in their own order."""
    order = sorted(range(len(items)), key=lambda i: lengths[i])
    buckets: list[list[int]] = []
    for index in order:
        if buckets and lengths[index] <= largest * lengths[buckets[-1][0]] + 8:
            buckets[-1].append(index)
        else:
            buckets.append([index])
    rows: list[tuple[int, np.ndarray]] = []
    for bucket in buckets:
        rows += zip(bucket, encode([items[i] for i in bucket]), strict=True)
    return np.stack([row for _, row in sorted(rows, key=lambda pair: pair[0])])


def joined(text: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """A pair's vector: the unit vector between its text's and its picture's, in their own space."""
    total = text + picture
    return total / np.maximum(np.linalg.norm(total, axis=-1, keepdims=True), 1e-12)
