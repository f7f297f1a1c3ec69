"""What counts as a picture wherever MoMo takes some: a path, a PIL picture, a NumPy array."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from PIL import Image

from momo.transforms import upright

Picture = str | os.PathLike[str] | Image.Image | np.ndarray
"""A file, a PIL picture, or uint8 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] (with alpha)."""


def is_one_picture(value: object) -> bool:
    """Whether it is one picture rather than a list of them; an array of four dimensions is a list
    of arrays."""
    if isinstance(value, np.ndarray):
        return value.ndim < 4
    return isinstance(value, str | os.PathLike | Image.Image)


def open_picture(picture: Picture) -> Image.Image:
    """A PIL picture, read whole and upright.

    Raises FileNotFoundError or ValueError that names the file, ValueError for an array of another
    shape, TypeError for one that is not uint8 and for what is no picture.
    """
    if isinstance(picture, Image.Image):
        return upright(picture)
    if isinstance(picture, np.ndarray):
        return _from_array(picture)
    if not isinstance(picture, str | os.PathLike):
        raise TypeError(
            f"{type(picture).__name__} is no picture: give a path, a PIL picture or a NumPy array "
            "uint8 [height, width, channels]"
        )
    try:
        with Image.open(picture) as opened:
            opened.load()
            return upright(opened)
    except FileNotFoundError:
        raise FileNotFoundError(f"{os.fspath(picture)}: no such picture") from None
    except Exception as error:  # Pillow's decoders raise many kinds on malformed bytes
        raise ValueError(
            f"{os.fspath(picture)} is not a readable picture ({error}); give PNG, JPEG, WebP, GIF "
            "or BMP"
        ) from error


def _from_array(array: np.ndarray[Any, Any]) -> Image.Image:
    shape = array.shape
    if array.dtype != np.uint8:
        raise TypeError(
            f"a picture of {array.dtype} {list(shape)}: give uint8, 0 to 255, not yet normalised; "
            "of floats in 0 to 1, (255 * array).round().astype('uint8')"
        )
    if 0 in shape or array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 3, 4)):
        turned = array.ndim == 3 and shape[0] in (1, 3, 4)
        hint = "; channels come last here: array.transpose(1, 2, 0)" if turned else ""
        raise ValueError(
            f"a picture of shape {list(shape)}: give [height, width] or [height, width, channels], "
            f"of 1, 3 or 4 channels{hint}"
        )
    return Image.fromarray(array[:, :, 0] if array.ndim == 3 and shape[2] == 1 else array)
