"""From rows of a shard to a batch of arrays: decode, augment, tokenize, add noise.

Everything random comes from `uniform(seeds, n, stream)`, which the caller passes in: uniform
numbers float32 [B, n] in [0, 1), a pure function of each row's seed. So a sample looks the same
whichever worker prepares it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
from PIL import ExifTags, Image
from tokenizers import Tokenizer

from momo.config import ModelConfig
from momo.tokenizer import encode_texts

MIN_CROP_AREA = 0.6
_CROP, _MASK_IMAGE, _MASK_TEXT, _CAPTION, _MATCH = range(5)


class Uniform(Protocol):
    """`seeds` uint64 [B] → float32 [B, n] in [0, 1); streams are independent."""

    def __call__(self, seeds: np.ndarray, n: int, stream: int = 0) -> np.ndarray: ...


def decode(raw: bytes) -> Image.Image:
    """RGB picture from encoded bytes; transparent pixels become white."""
    image = Image.open(io.BytesIO(raw))
    return to_rgb(image)


_TURNS = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF orientation says, as the pictures trained on are.

    `ImageOps.exif_transpose` also writes the EXIF anew and fails where a field of it is malformed.
    """
    method = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if method is None else image.transpose(method)


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB, alpha composited on white, 16-bit greyscale scaled to 8 bits."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        shift = 8 if image.mode != "I" or values.max(initial=0) > 255 else 0
        return Image.fromarray((values.clip(0, 65535) >> shift).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def centre_crop(image: Image.Image, size: int) -> np.ndarray:
    """The largest central square, resized: uint8 [3, size, size]."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return _to_array(image, size, box)


def random_crop(image: Image.Image, size: int, noise: np.ndarray) -> np.ndarray:
    """A crop of 60–100 % of the area, sides 3:4 to 4:3, resized: uint8 [3, size, size].

    `noise` [4]: area, aspect, horizontal and vertical place.
    """
    area = image.width * image.height * (MIN_CROP_AREA + (1 - MIN_CROP_AREA) * float(noise[0]))
    aspect = (3 / 4) ** (1 - 2 * float(noise[1]))
    width = min(image.width, (area * aspect) ** 0.5)
    height = min(image.height, (area / aspect) ** 0.5)
    left, top = float(noise[2]) * (image.width - width), float(noise[3]) * (image.height - height)
    return _to_array(image, size, (left, top, left + width, top + height))


def _to_array(image: Image.Image, size: int, box: tuple[float, float, float, float]) -> np.ndarray:
    resized = image.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    return np.asarray(resized).transpose(2, 0, 1)


def stack_pictures(pictures: Sequence[Image.Image], size: int) -> np.ndarray:
    """Centre-cropped pictures uint8 [N, 3, size, size], for evaluation and embedding."""
    pixels = np.empty((len(pictures), 3, size, size), dtype=np.uint8)
    for row, picture in enumerate(pictures):
        pixels[row] = centre_crop(to_rgb(picture), size)
    return pixels


def _pixels(
    table: pa.Table, seeds: np.ndarray, uniform: Uniform, size: int, augment: bool, flip: bool
) -> np.ndarray:
    crops = uniform(seeds, 5, _CROP)
    pixels = np.empty((table.num_rows, 3, size, size), dtype=np.uint8)
    for row, raw in enumerate(table.column("image").to_pylist()):
        image = decode(raw)
        if not augment:
            pixels[row] = centre_crop(image, size)
            continue
        crop = random_crop(image, size, crops[row])
        pixels[row] = crop[:, :, ::-1] if flip and crops[row, 4] < 0.5 else crop
    return pixels


def image_batch(
    table: pa.Table,
    seeds: np.ndarray,
    uniform: Uniform,
    config: ModelConfig,
    augment: bool = True,
) -> dict[str, np.ndarray]:
    """`pixels` uint8 [B, 3, H, W] and `noise` float32 [B, N]; the table has `image` (bytes).

    Augmented: random resized crop and horizontal flip.
    """
    return {
        "pixels": _pixels(table, seeds, uniform, config.image_size, augment, flip=True),
        "noise": uniform(seeds, config.num_patches, _MASK_IMAGE),
    }


def text_batch(
    table: pa.Table, seeds: np.ndarray, uniform: Uniform, column: str = "ids"
) -> dict[str, np.ndarray]:
    """`ids` int64 [B, T] and `noise` float32 [B, T, 3]; `column` holds lists of ids."""
    lists = table.column(column).to_pylist()
    length = max(map(len, lists))
    ids = np.zeros((len(lists), length), dtype=np.int64)
    for row, values in enumerate(lists):
        ids[row, : len(values)] = values
    return {"ids": ids, "noise": _word_noise(seeds, uniform, length)}


def pair_batch(
    table: pa.Table,
    seeds: np.ndarray,
    uniform: Uniform,
    config: ModelConfig,
    tokenizer: Tokenizer,
    length: int = 32,
    augment: bool = True,
) -> dict[str, np.ndarray]:
    """A pair batch as `MoMoTask` takes it, from `image` (bytes) and `captions` (list of text).

    One caption of each row is drawn and cut to `length` tokens. Never flipped: captions may say
    left or right. `group` comes from the column of that name, where there is one.
    """
    choice = uniform(seeds, 1, _CAPTION)[:, 0]
    captions = [
        options[min(int(u * len(options)), len(options) - 1)]
        for options, u in zip(table.column("captions").to_pylist(), choice, strict=True)
    ]
    batch = {
        "pixels": _pixels(table, seeds, uniform, config.image_size, augment, flip=False),
        "ids": encode_texts(tokenizer, captions, length),
        "noise_image": uniform(seeds, config.num_patches, _MASK_IMAGE),
        "noise_text": _word_noise(seeds, uniform, length),
        "noise_match": uniform(seeds, 1, _MATCH)[:, 0],
    }
    if "group" in table.column_names:
        batch["group"] = np.array([_key(g) for g in table.column("group").to_pylist()], np.int64)
    return batch


def _word_noise(seeds: np.ndarray, uniform: Uniform, length: int) -> np.ndarray:
    return uniform(seeds, 3 * length, _MASK_TEXT).reshape(len(seeds), length, 3)


def _key(group: object) -> int:
    digest = hashlib.blake2b(str(group).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
