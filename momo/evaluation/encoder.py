"""A model under evaluation: what every protocol asks of it.

Shapes: N items, B a batch, T tokens, D width, E the width of the space of texts and pictures.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from momo.by_length import encode_by_length, text_lengths
from momo.device import find_device, to_device
from momo.masking import PAD
from momo.model import mean_of_tokens
from momo.precision import FloatPrecision, at_precision, check_float_precision

Capability = Literal["image", "text", "pair", "aligned", "matching", "words"]
"""What a model can do: encode one modality, encode pairs, put both into one space, tell whether a
text belongs to a picture, predict masked words."""
BATCH = 256
MOST_FEATURES = 2048
_DEPTH = re.compile(r"(?:^|\.)(?:layers?|blocks|h)\.(\d+)\.")


class Trunk(nn.Module, ABC):
    """The part of a model that is fine-tuned: inputs → one vector an example.

    `width` is its length, `pad` the id that stands for padding in `ids`.
    """

    width: int
    pad: int = PAD

    @abstractmethod
    def forward(self, ids: Tensor | None, pixels: Tensor | None) -> Tensor:
        """`ids` int64 [B, T], `pixels` uint8 [B, 3, H, W], one or both → [B, width]."""

    def layers(self) -> list[list[nn.Parameter]]:
        """Parameters from the input side to the last norm, by the block they belong to; towers of a
        model with several count side by side."""
        return by_depth(self)


def by_depth(module: nn.Module) -> list[list[nn.Parameter]]:
    """Embeddings, each block, the rest (perhaps none); by the numbers in the names."""
    blocks: dict[int, list[nn.Parameter]] = {}
    first: list[nn.Parameter] = []
    last: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        found = _DEPTH.search(name)
        if found:
            blocks.setdefault(int(found.group(1)), []).append(parameter)
        else:
            (first if "embedding" in name else last).append(parameter)
    return [first, *(blocks[i] for i in sorted(blocks)), last]


class Encoder(ABC):
    """Base of all models under evaluation. `seen`: what it can do.

    `device`: cpu, cuda or cuda:N; None: a GPU where torch sees one. `precision`: of everything that
    it encodes; results are float32 on the CPU. Raises ValueError for a device that is not there and
    for an unknown precision. Texts go in batches of nearly equal length, whatever their order.
    """

    name: str
    pad: int = PAD
    """The id that stands for padding."""
    seen: frozenset[Capability]
    image_size: int
    text_length: int
    caption_length: int | None = None
    """Tokens of a caption in training, where that is known."""
    vocab_size: int = 0
    """How many words it can predict, where it sees `words`."""
    savable: bool = False
    """Whether `momo.classifier` can keep what its trunk was fine-tuned to."""

    def __init__(
        self,
        name: str,
        device: str | torch.device | None = None,
        precision: FloatPrecision = "fp32",
    ) -> None:
        check_float_precision(precision)
        self.name = name
        self.precision: FloatPrecision = precision
        self.device = find_device(device)

    @abstractmethod
    def tokenize(
        self, texts: Sequence[str], second: Sequence[str] | None = None, length: int | None = None
    ) -> np.ndarray:
        """Ids int64 [N, length], padded with the trunk's `pad`; with `second`, sentence pairs. A
        pair that is too long loses the end of its longer text. `length`: at most the model's."""

    @abstractmethod
    def trunk(self) -> Trunk:
        """What `fine_tune` copies and trains."""

    @property
    def tokenizer_json(self) -> str | None:
        """The tokenizer's file, where it is to be kept with a fine-tuned copy."""
        return None

    def predict_words(self, ids: Tensor, present: Tensor, hidden: Tensor) -> Tensor:
        """The likeliest words of hidden places, int64 [M]: `ids` int64 [B, T] are masked, `present`
        bool [B, T] without padding, `hidden` bool [B, T] has M of them. Of one that sees `words`.
        """
        raise NotImplementedError

    @abstractmethod
    def _patches(self, pixels: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] → the last block's patch tokens [B, side², D]."""

    @abstractmethod
    def _words(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T] → the last block's tokens [B, T, D] and which count, bool [B, T]."""

    def _embed_pixels(self, pixels: Tensor) -> Tensor:
        raise NotImplementedError

    def _embed_ids(self, ids: Tensor) -> Tensor:
        raise NotImplementedError

    def _match(self, pixels: Tensor, ids: Tensor) -> Tensor:
        raise NotImplementedError

    def _encoded(self, function: Callable[..., Tensor], *batch: Any) -> np.ndarray:
        arrays = (to_device(np.asarray(array), self.device) for array in batch)
        with torch.inference_mode(), at_precision(self.precision, self.device):
            return function(*arrays).float().cpu().numpy()

    def _pictures(
        self, function: Callable[[Tensor], Tensor], pixels: Any, batch_size: int
    ) -> np.ndarray:
        self._require_some(pixels)
        parts = chunks(len(pixels), batch_size)
        return np.concatenate([self._encoded(function, pixels[rows]) for rows in parts])

    def _texts(
        self, function: Callable[[Tensor], Tensor], ids: np.ndarray, batch_size: int
    ) -> np.ndarray:
        self._require_some(ids)

        def encode(rows: np.ndarray, longest: int) -> np.ndarray:
            return self._encoded(function, ids[rows, :longest])

        return encode_by_length(encode, text_lengths(ids != self.pad), batch_size, self.device)

    def _require_some(self, inputs: Any) -> None:
        if not len(inputs):
            raise ValueError(f"{self.name}: nothing to encode")

    def _require(self, capability: Capability) -> None:
        if capability not in self.seen:
            raise ValueError(f"{self.name} can't do this task: it lacks {capability!r}")

    def image_features(self, pixels: Any, batch_size: int = BATCH) -> np.ndarray:
        """uint8 [N, 3, H, W] → float32 [N, cells · D]: the last block's patch tokens, averaged
        over the cells of a grid of at most 4×4, so that at most 2,048 values come out.

        Masked modelling leaves place and content in the patch tokens; their overall mean, which
        has no place, probes far worse on small models (docs/experiments.md).
        """
        self._require("image")

        def pooled(batch: Tensor) -> Tensor:
            return pool_cells(self._patches(batch))

        return self._pictures(pooled, pixels, batch_size)

    def text_features(self, ids: np.ndarray, batch_size: int = BATCH) -> np.ndarray:
        """int64 [N, T] → float32 [N, D]: the tokens' mean."""
        self._require("text")

        def pooled(batch: Tensor) -> Tensor:
            return mean_of_tokens(*self._words(batch))

        return self._texts(pooled, ids, batch_size)

    def embed_pixels(self, pixels: Any, batch_size: int = BATCH) -> np.ndarray:
        """uint8 [N, 3, H, W] → unit vectors float32 [N, E]."""
        self._require("aligned")
        return self._pictures(self._embed_pixels, pixels, batch_size)

    def embed_ids(self, ids: np.ndarray, batch_size: int = BATCH) -> np.ndarray:
        """int64 [N, T] → unit vectors float32 [N, E]."""
        self._require("aligned")
        return self._texts(self._embed_ids, ids, batch_size)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors float32 [N, E]."""
        return self.embed_ids(self.tokenize(texts))

    def match(
        self,
        pixels: Any,
        ids: np.ndarray,
        batch_size: int = BATCH,
        picture: np.ndarray | None = None,
    ) -> np.ndarray:
        """How well each text, `ids` int64 [N, T], fits its picture, float32 [N]; above 0: it does.

        `picture` int64 [N]: the row in `pixels` of each text's picture; None: its own row.
        """
        self._require("matching")
        self._require_some(ids)

        def encode(rows: np.ndarray, longest: int) -> np.ndarray:
            shown = rows if picture is None else picture[rows]
            return self._encoded(self._match, pixels[shown], ids[rows, :longest])

        return encode_by_length(encode, text_lengths(ids != self.pad), batch_size, self.device)


def pool_cells(tokens: Tensor) -> Tensor:
    """Patch tokens [B, side², D] → [B, cells² · D]."""
    side, width = math.isqrt(tokens.shape[1]), tokens.shape[2]
    if side * side != tokens.shape[1]:
        raise ValueError(f"{tokens.shape[1]} patches make no square")
    cells = min(side, 4, max(1, math.isqrt(MOST_FEATURES // width)))
    grid = tokens.transpose(1, 2).unflatten(2, (side, side))
    return nn.functional.adaptive_avg_pool2d(grid, cells).flatten(1)


def chunks(count: int, size: int = BATCH) -> Iterator[slice]:
    """Slices that cover `count` rows."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
