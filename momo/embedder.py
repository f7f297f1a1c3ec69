"""What embeds texts and pictures, whichever engine computes: `momo.load` gives one."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer

from momo.by_length import encode_by_length, text_lengths
from momo.config import ModelConfig
from momo.masking import PAD
from momo.pictures import Picture, is_one_picture, open_picture
from momo.precision import Precision
from momo.tokenizer import padded, token_ids
from momo.transforms import stack_pictures
from momo.vectors import check_dimensions, truncate

_WINDOW = 32  # batches of texts that are ordered by length at a time


class AnyEmbedder(ABC):
    """Text and pictures into one space of unit vectors [N, embed_dim].

    Texts are cut to `text_length` tokens, by default the model's `max_text_length`; captions were
    never longer in training than what the export stage writes here.
    """

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: Tokenizer,
        text_length: int | None = None,
        precision: Precision = "fp32",
    ) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.precision: Precision = precision
        self.text_length = min(text_length or config.max_text_length, config.max_text_length)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return torch.device("cpu")

    @property
    @abstractmethod
    def logit_scale(self) -> float:
        """What training multiplies cosines by: 1 divided by its temperature."""

    @abstractmethod
    def _encode_ids(self, ids: np.ndarray) -> np.ndarray:
        """A batch int64 [B, T], padded with `PAD` → unit vectors float32 [B, embed_dim]."""

    @abstractmethod
    def _encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """A batch uint8 [B, 3, H, W] → unit vectors float32 [B, embed_dim]."""

    def _computing(self) -> contextlib.AbstractContextManager[None]:
        """What batches are encoded in."""
        return contextlib.nullcontext()

    def embed(
        self,
        texts: Sequence[str] | None = None,
        images: Sequence[Picture] | None = None,
        batch_size: int = 256,
        dimensions: int | None = None,
    ) -> np.ndarray:
        """float32 [N, embed_dim] of `texts` or of `images` (paths, PIL pictures or NumPy arrays,
        `momo.pictures.Picture`); with both, as many of each, of pairs: the unit vector between the
        text's and the picture's.

        `dimensions`: so many numbers of each vector, the first ones, again of length 1: [N,
        dimensions]. They are good where training had them as prefixes
        (`task.contrastive_prefixes`).

        Raises ValueError for a picture that can't be read or has another shape, for neither
        argument, for pairs that are not as many and for `dimensions` that a vector does not have,
        TypeError for what is no picture and for one text or picture that is not in a list.
        """
        if texts is None and images is None:
            raise ValueError("embed takes texts=[...], images=[...] or both")
        if isinstance(texts, str) or is_one_picture(images):
            raise TypeError("embed takes a list: write texts=[text] or images=[image]")
        if dimensions is not None:
            check_dimensions(dimensions, self.config.embed_dim)
            return truncate(self.embed(texts, images, batch_size), dimensions)
        if texts is not None and images is not None:
            if len(texts) != len(images):
                raise ValueError(f"{len(texts)} texts, {len(images)} images: pairs need as many")
            total = self.embed(texts, None, batch_size) + self.embed(None, images, batch_size)
            return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
        parts = []
        if texts is not None:
            window = _WINDOW * batch_size
            for start in range(0, len(texts), window):
                ids = self.token_ids(texts[start : start + window])
                parts.append(self.embed_ids(ids, batch_size))
        elif images is not None:
            for start in range(0, len(images), batch_size):
                pictures = [open_picture(p) for p in images[start : start + batch_size]]
                parts.append(self.embed_pixels(stack_pictures(pictures, self.config.image_size)))
        if not parts:
            return np.zeros((0, self.config.embed_dim), dtype=np.float32)
        return np.concatenate(parts)

    def similarity(self, texts: Sequence[str], images: Sequence[Picture]) -> np.ndarray:
        """Cosines float32 [len(texts), len(images)]."""
        return self.embed(texts=texts) @ self.embed(images=images).T

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text's tokens, those that the model reads."""
        return token_ids(self.tokenizer, texts, self.text_length)

    def embed_ids(self, ids: Sequence[Sequence[int]], batch_size: int = 256) -> np.ndarray:
        """`token_ids` of texts → float32 [N, embed_dim]. Raises ValueError for no texts."""
        encoded = padded(ids, self.text_length)

        def encode(rows: np.ndarray, longest: int) -> np.ndarray:
            return self._encode_ids(encoded[rows, :longest])

        with self._computing():
            return encode_by_length(encode, text_lengths(encoded != PAD), batch_size, self.device)

    def embed_pixels(self, pixels: np.ndarray, batch_size: int = 256) -> np.ndarray:
        """uint8 [N, 3, H, W] of the model's size → float32 [N, embed_dim]."""
        with self._computing():
            starts = range(0, len(pixels), batch_size)
            return np.concatenate([self._encode_pixels(pixels[s : s + batch_size]) for s in starts])

    def attention(self, pixels: np.ndarray, text: str | Sequence[int] | None = None) -> np.ndarray:
        """How much the model looks at each patch of a picture, uint8 [3, H, W] of its size, given a
        text, its `token_ids` or none: float32 [rows, columns], sum 1. Raises ValueError where the
        engine does not tell."""
        raise ValueError(
            f"{type(self).__name__} gives vectors only: open the export that it was made of"
        )
