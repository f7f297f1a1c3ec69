"""What the endpoint asks of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

from momo_platform.serving.config import Precision

Tokens = Sequence[int]
"""The ids of a text's tokens, those that the model reads."""


class InputReader(Protocol):
    """What is done to texts and pictures before the model, in the replica; from any thread."""

    @property
    def max_tokens(self) -> int:
        """Of a text, those that the model reads."""
        ...

    def counted(self, texts: Sequence[str]) -> Sequence[tuple[Tokens, int]]:
        """Of each text the tokens that the model reads, and how many it has."""
        ...

    def prepare(self, picture: Image.Image) -> Any:
        """A decoded picture → what the encoder takes, as small as it needs it."""
        ...


class ServedModel(Protocol):
    """Called from one thread at a time. A result must not depend on what else is in the batch by
    more than rounding; short texts must not pay for the padding of long ones."""

    @property
    def name(self) -> str:
        """The model's, another one for another version."""
        ...

    @property
    def dimensions(self) -> int:
        """Of a vector; a classifier's classes."""
        ...

    @property
    def device_bytes(self) -> int:
        """Memory that it holds on its GPU; 0 without one. Asked after every batch."""
        ...


class ServedEncoder(ServedModel, Protocol):
    """Embeds texts and pictures into one space of unit vectors."""

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied by before the softmax over classes."""
        ...

    def texts(self, texts: Sequence[Tokens]) -> np.ndarray:
        """float32 [N, dimensions]."""
        ...

    def pictures(self, pictures: Sequence[Any]) -> np.ndarray:
        """float32 [N, dimensions]."""
        ...

    def attention(self, picture: Any, text: Tokens | None) -> np.ndarray:
        """float32 [rows, columns], sum 1: how much the model looks at each part of the picture."""
        ...


class ServedClassifier(ServedModel, Protocol):
    """Gives texts, pictures or pairs of both a class."""

    def classify(
        self, texts: Sequence[Tokens] | None, pictures: Sequence[Any] | None
    ) -> np.ndarray:
        """float32 [N, classes], rows of sum 1."""
        ...


class ClassifierReader(InputReader, Protocol):
    """Of a classifier: also its classes by name, and whether it takes texts and pictures."""

    classes: Sequence[str]
    takes_texts: bool
    takes_pictures: bool


Load = Callable[[str, int, str, Precision], ServedEncoder]
"""A folder, a number of threads, a device (cpu or cuda) and a precision → the encoder, ready to be
asked; a function of a module, it is called in another process."""


@dataclass(frozen=True)
class Loaders:
    """How an exported model's folder is opened, and a classifier's where there may be one."""

    encoder: Load
    reader: Callable[[str], InputReader]
    classifier: Callable[[str, int, str, Precision], ServedClassifier] | None = None
    classifier_reader: Callable[[str], ClassifierReader] | None = None


def joined(text: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """A pair's vector: the unit vector between its text's and its picture's, in their own space."""
    total = text + picture
    return total / np.maximum(np.linalg.norm(total, axis=-1, keepdims=True), 1e-12)
