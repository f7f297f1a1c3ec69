"""Which part of a picture a sample shows, and where its pixels lie. No torch: readers use it.

Pillow crops by a box; on a device `momo.crop` does, from the part of the picture that the box and
the filter's margin cover.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

MIN_CROP_AREA = 0.6
# While it is cropped, a chunk takes about 45 bytes a pixel: less than half a gigabyte.
PIXELS_A_CHUNK = 2**23

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels, fractions included."""


def random_box(width: int, height: int, noise: np.ndarray) -> Box:
    """60–100 % of a picture's area, sides 3:4 to 4:3.

    `noise` [4]: area, aspect, horizontal and vertical place, each in [0, 1).
    """
    area = width * height * (MIN_CROP_AREA + (1 - MIN_CROP_AREA) * float(noise[0]))
    aspect = (3 / 4) ** (1 - 2 * float(noise[1]))
    wide, high = min(width, (area * aspect) ** 0.5), min(height, (area / aspect) ** 0.5)
    return float(noise[2]) * (width - wide), float(noise[3]) * (height - high), wide, high


def central_box(width: int, height: int) -> Box:
    """The largest central square."""
    side = min(width, height)
    return (width - side) / 2, (height - side) / 2, side, side


def _reach(start: float, length: float, size: int, most: int) -> tuple[int, int]:
    """First and last + 1 of the pixels that a triangle filter reads: half of its support lies
    beyond the centres of the first and the last of `size` results."""
    scale = length / size
    beyond = max(1.0, scale) - 0.5 * scale
    return max(0, math.floor(start - beyond)), min(most, math.ceil(start + length + beyond))


def region(box: Box, width: int, height: int, size: int) -> tuple[int, int, int, int]:
    """Left, top, width, height of the whole pixels that a crop to `size` × `size` reads."""
    left, right = _reach(box[0], box[2], size, width)
    top, bottom = _reach(box[1], box[3], size, height)
    return left, top, right - left, bottom - top


@dataclass(frozen=True)
class CropPlan:
    """What the host knows about a batch of crops, so that nobody asks the device for it.

    `chunks`: first row, last row + 1, greatest height and width of their regions.
    """

    chunks: tuple[tuple[int, int, int, int], ...]


def plan_crops(place: np.ndarray, size: int, most: int = PIXELS_A_CHUNK) -> CropPlan:
    """Consecutive rows together as long as they have at most `most` pixels, padding included and
    each side counted as `size` at least.

    `place` int64 [B, 4]: start, height, width, stride, as `crop_pictures` takes it.
    """
    chunks: list[tuple[int, int, int, int]] = []
    first, height, width = 0, 0, 0
    for row, (_, rows, columns, _) in enumerate(place.tolist()):
        higher, wider = max(height, rows), max(width, columns)
        if row > first and (row + 1 - first) * max(higher, size) * max(wider, size) > most:
            chunks.append((first, row, height, width))
            first, higher, wider = row, rows, columns
        height, width = higher, wider
    if len(place):
        chunks.append((first, len(place), height, width))
    return CropPlan(tuple(chunks))
