"""From stored rows to batches. Every random choice comes from the samples' own seeds.

`uniform(seeds, n, stream)` → float32 [B, n] in [0, 1) is handed in; `stream` separates uses.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from PIL import Image
from tokenizers import Tokenizer

from momo.config import ModelConfig
from momo.tokenizer import encode_batch

Uniform = Callable[[np.ndarray, int, int], np.ndarray]
_CROP, _IMAGE_MASK, _TEXT_MASK, _CAPTION, _MATCH = range(5)
_SMALLEST_CROP = 0.6  # share of the side


def decode_picture(raw: bytes, size: int, box: tuple[float, float, float, float]) -> np.ndarray:
    """Encoded bytes → uint8 [3, size, size]; `box` is the part to keep, in shares of the sides."""
    with Image.open(io.BytesIO(raw)) as opened:
        picture = opened.convert("RGB")
    width, height = picture.size
    left, top, right, bottom = box
    area = (left * width, top * height, right * width, bottom * height)
    if area != (0, 0, width, height) or picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BILINEAR, box=area)
    return np.asarray(picture).transpose(2, 0, 1)


def decode_pictures(rows: Sequence[bytes], size: int) -> np.ndarray:
    """Whole pictures without augmentation, uint8 [B, 3, size, size]."""
    return np.stack([decode_picture(raw, size, (0.0, 0.0, 1.0, 1.0)) for raw in rows])


def augmented_pictures(
    rows: Sequence[bytes], size: int, seeds: np.ndarray, uniform: Uniform
) -> np.ndarray:
    """Random crops of 60–100 % of the sides; no flips, since captions and digits have sides."""
    noise = uniform(seeds, 3, _CROP)
    pictures = np.empty((len(rows), 3, size, size), dtype=np.uint8)
    for index, (raw, (a, b, c)) in enumerate(zip(rows, noise, strict=True)):
        side = _SMALLEST_CROP + (1 - _SMALLEST_CROP) * float(a)
        left, top = float(b) * (1 - side), float(c) * (1 - side)
        pictures[index] = decode_picture(raw, size, (left, top, left + side, top + side))
    return pictures


class ImageBatch:
    """Column `image` (encoded) → `pixels`, `image_noise`."""

    def __init__(self, config: ModelConfig, uniform: Uniform) -> None:
        self.config, self.uniform = config, uniform

    def __call__(self, table: pa.Table, seeds: np.ndarray) -> dict[str, np.ndarray]:
        rows = table["image"].to_pylist()
        return {
            "pixels": augmented_pictures(rows, self.config.image_size, seeds, self.uniform),
            "image_noise": self.uniform(seeds, self.config.num_patches, _IMAGE_MASK),
        }


class TextBatch:
    """Column `ids` (packed sequences of equal length) → `ids`, `text_noise`."""

    def __init__(self, config: ModelConfig, uniform: Uniform) -> None:
        self.config, self.uniform = config, uniform

    def __call__(self, table: pa.Table, seeds: np.ndarray) -> dict[str, np.ndarray]:
        column = table["ids"].combine_chunks()
        flat = column.flatten().to_numpy(zero_copy_only=False)
        ids = flat.reshape(len(table), -1).astype(np.int64)
        noise = self.uniform(seeds, ids.shape[1] * 3, _TEXT_MASK)
        return {"ids": ids, "text_noise": noise.reshape(*ids.shape, 3)}


class PairBatch:
    """Columns `image`, `captions` → pixels, one caption's ids a picture, noise, caption keys."""

    def __init__(
        self, config: ModelConfig, tokenizer: Tokenizer, max_length: int, uniform: Uniform
    ) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.max_length, self.uniform = max_length, uniform

    def __call__(self, table: pa.Table, seeds: np.ndarray) -> dict[str, np.ndarray]:
        choice = self.uniform(seeds, 1, _CAPTION)[:, 0]
        captions = [
            options[int(c * len(options))]
            for options, c in zip(table["captions"].to_pylist(), choice, strict=True)
        ]
        ids = encode_batch(self.tokenizer, captions, self.max_length)
        first = [options[0] for options in table["captions"].to_pylist()]
        keys = np.array([zlib.crc32(c.lower().encode()) % 2**24 for c in first], dtype=np.int64)
        length = self.max_length
        noise = self.uniform(seeds, length * 3, _TEXT_MASK).reshape(len(ids), length, 3)
        return {
            "pixels": augmented_pictures(
                table["image"].to_pylist(), self.config.image_size, seeds, self.uniform
            ),
            "ids": ids,
            "caption_key": keys,
            "image_noise": self.uniform(seeds, self.config.num_patches, _IMAGE_MASK),
            "text_noise": noise[:, : ids.shape[1]],
            "match_noise": self.uniform(seeds, 2, _MATCH),
        }
