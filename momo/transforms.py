"""From rows of a shard to a batch of arrays: decode, augment, tokenize, add noise.

Everything random comes from `uniform(seeds, n, stream)`, which the caller passes in: uniform
numbers float32 [B, n] in [0, 1), a pure function of each row's seed. So a sample looks the same
whichever worker prepares it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from PIL import ExifTags, Image
from tokenizers import Tokenizer

from momo.decoding import EncodedBatch, EncodedPicture, decode, to_rgb
from momo.model_config import ModelConfig
from momo.regions import Box, central_box, plan_crops, random_box, region
from momo.tokenizer import encode_texts

if TYPE_CHECKING:
    import pyarrow as pa

PictureForm = Literal["cropped", "decoded", "encoded"]
"""`cropped`: `pixels`, by Pillow. The others are cropped on a device by `momo.crop`: `decoded` to
RGB already, or `encoded` where the device decodes too."""
_CROP, _MASK_IMAGE, _MASK_TEXT, _CAPTION, _MATCH = range(5)


class Uniform(Protocol):
    """`seeds` uint64 [B] → float32 [B, n] in [0, 1); streams are independent."""

    def __call__(self, seeds: np.ndarray, n: int, stream: int = 0) -> np.ndarray: ...


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


def centre_crop(image: Image.Image, size: int) -> np.ndarray:
    """The largest central square, resized: uint8 [3, size, size]."""
    return _to_array(image, size, central_box(*image.size))


def random_crop(image: Image.Image, size: int, noise: np.ndarray) -> np.ndarray:
    """The crop that `random_box` draws from `noise` [4], resized: uint8 [3, size, size]."""
    return _to_array(image, size, random_box(*image.size, noise))


def _to_array(image: Image.Image, size: int, box: Box) -> np.ndarray:
    left, top, width, height = box
    corners = (left, top, left + width, top + height)
    resized = image.resize((size, size), Image.Resampling.BILINEAR, box=corners, reducing_gap=2.0)
    return np.asarray(resized).transpose(2, 0, 1)


def stack_pictures(pictures: Sequence[Image.Image], size: int) -> np.ndarray:
    """Centre-cropped pictures uint8 [N, 3, size, size], for evaluation and embedding."""
    pixels = np.empty((len(pictures), 3, size, size), dtype=np.uint8)
    for row, picture in enumerate(pictures):
        pixels[row] = centre_crop(to_rgb(picture), size)
    return pixels


def _pictures(
    table: pa.Table,
    seeds: np.ndarray,
    uniform: Uniform,
    size: int,
    form: PictureForm,
    augment: bool,
    flip: bool,
) -> dict[str, Any]:
    """The part of a batch that its pictures make; the same noise whatever the form."""
    noise = uniform(seeds, 5, _CROP)
    mirrored = (noise[:, 4] < 0.5) & (flip and augment)
    if form != "cropped":
        return _uncropped(table, noise, mirrored, size, form, augment)
    pixels = np.empty((table.num_rows, 3, size, size), dtype=np.uint8)
    for row, raw in enumerate(table.column("image").to_pylist()):
        image = decode(raw)
        crop = random_crop(image, size, noise[row]) if augment else centre_crop(image, size)
        pixels[row] = crop[:, :, ::-1] if mirrored[row] else crop
    return {"pixels": pixels}


def _uncropped(
    table: pa.Table,
    noise: np.ndarray,
    mirrored: np.ndarray,
    size: int,
    form: PictureForm,
    augment: bool,
) -> dict[str, Any]:
    """What `momo.crop.with_pixels` makes pixels of.

    Decoded pictures are cut to what their crops read. Rows of a resident corpus have `start`,
    `height` and `width` instead of `image`, and bring no bytes.
    """
    pictures: list[EncodedPicture] = []
    if resident := "start" in table.column_names:
        starts, heights, widths = (
            table.column(name).to_pylist() for name in ("start", "height", "width")
        )
    else:
        pictures = [EncodedPicture.of(raw) for raw in table.column("image").to_pylist()]
        heights, widths = [p.height for p in pictures], [p.width for p in pictures]
        starts = np.cumsum([0, *(3 * p.height * p.width for p in pictures)]).tolist()
    whole = resident or form == "encoded"
    place = np.empty((table.num_rows, 4), dtype=np.int64)
    box = np.empty((table.num_rows, 4), dtype=np.float32)
    corners, end = [], 0
    for row in range(table.num_rows):
        width, height = widths[row], heights[row]
        wanted = random_box(width, height, noise[row]) if augment else central_box(width, height)
        left, top, columns, lines = region(wanted, width, height, size)
        box[row] = wanted[0] - left, wanted[1] - top, wanted[2], wanted[3]
        if whole:
            place[row] = starts[row] + 3 * (top * width + left), lines, columns, width
        else:
            place[row] = end, lines, columns, columns
            end += 3 * lines * columns
            corners.append((left, top))
    made = {"place": place, "box": box, "flip": mirrored, "crops": plan_crops(place, size)}
    if resident:
        return made
    if form == "encoded":
        return made | {"encoded": EncodedBatch.of(pictures)}
    flat = np.empty(end, dtype=np.uint8)
    for picture, (left, top), (start, lines, columns, _) in zip(
        pictures, corners, place.tolist(), strict=True
    ):
        there = flat[start : start + 3 * lines * columns].reshape(lines, columns, 3)
        there[:] = picture.pixels()[top : top + lines, left : left + columns]
    return made | {"flat": flat}


def image_batch(
    table: pa.Table,
    seeds: np.ndarray,
    uniform: Uniform,
    config: ModelConfig,
    augment: bool = True,
    form: PictureForm = "cropped",
) -> dict[str, Any]:
    """`pixels` uint8 [B, 3, H, W] and `noise` float32 [B, N]; the table has `image` (bytes).

    Augmented: random resized crop and horizontal flip. Other forms have what
    `momo.crop.with_pixels` takes in the place of `pixels`.
    """
    return {
        **_pictures(table, seeds, uniform, config.image_size, form, augment, flip=True),
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
    form: PictureForm = "cropped",
) -> dict[str, Any]:
    """A pair batch as `MoMoTask` takes it, from `image` (bytes) and `captions` (list of text).

    One caption of each row is drawn and cut to `length` tokens. Never flipped: captions may say
    left or right. `group` comes from the column of that name, where there is one. `form` as in
    `image_batch`.
    """
    choice = uniform(seeds, 1, _CAPTION)[:, 0]
    captions = [
        options[min(int(u * len(options)), len(options) - 1)]
        for options, u in zip(table.column("captions").to_pylist(), choice, strict=True)
    ]
    batch = {
        **_pictures(table, seeds, uniform, config.image_size, form, augment, flip=False),
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
