"""Crop, resize and flip a batch of pictures on the device that they lie on.

As Pillow's BILINEAR resize with `box` and `reducing_gap=2`: antialiased, a triangle as wide as the
scale, clipped at the picture's edges. Both directions are products with dense matrices. Their
weights are multiples of 2⁻¹⁶ and pixels are integers, so float32 holds every sum without rounding:
a crop is the same to the bit on any device, in any chunk, beside any other rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from momo.regions import CropPlan

_OF_CROPS = ("place", "box", "flip", "crops")


def crop_pictures(
    flat: Tensor, place: Tensor, box: Tensor, flip: Tensor, size: int, plan: CropPlan
) -> Tensor:
    """Crops uint8 [B, 3, size, size]; never waits for the device.

    `flat` uint8 [bytes]: RGB pictures, rows of pixels, one after another. `place` int64 [B, 4]:
    where in `flat` a crop's region starts (bytes), its height and width, and how many pixels lie
    from one of its rows to the next. `box` float32 [B, 4]: left, top, width and height of the crop
    in pixels of its region. `flip` bool [B]: mirrored left to right. `plan` is
    `plan_crops(place, size)`.
    """
    pixels = flat.view(-1, 3)
    crops = torch.empty(len(place), 3, size, size, dtype=torch.uint8, device=flat.device)
    for first, last, height, width in plan.chunks:
        rows = slice(first, last)
        crops[rows] = _crop(pixels, place[rows], box[rows], flip[rows], size, height, width)
    return crops


def _crop(
    pixels: Tensor, place: Tensor, box: Tensor, flip: Tensor, size: int, height: int, width: int
) -> Tensor:
    start, rows, columns, stride = place[:, :, None].unbind(1)  # [b, 1] each
    y, x = (torch.arange(n, device=place.device) for n in (height, width))
    # Beyond a region its last row or column again: the weights there are 0.
    line = start // 3 + torch.minimum(y, rows - 1) * stride
    picture = pixels[line[:, :, None] + torch.minimum(x, columns - 1)[:, None]]  # [b, H, W, 3]

    left, top, wide, high = box[:, :, None].unbind(1)
    vertical = _weights(top, high, rows, torch.zeros_like(flip), size, height)
    horizontal = _weights(left, wide, columns, flip, size, width)
    columns_done = _product(vertical, picture.flatten(2)).round_()  # [b, size, 3 W]
    lines = columns_done.unflatten(2, (width, 3)).permute(0, 3, 1, 2).flatten(1, 2)
    done = _product(lines, horizontal.transpose(1, 2))  # [b, 3 size, size]
    return done.round_().clamp_(0.0, 255.0).to(torch.uint8).unflatten(1, (3, size))


def _weights(
    start: Tensor, length: Tensor, count: Tensor, flip: Tensor, size: int, padded: int
) -> Tensor:
    """[b, size, padded]: how much each of a region's `count` pixels gives to each result.

    Where a result is made of four pixels or more, Pillow (`reducing_gap=2`) first takes the means
    of blocks, from the region's start on: all pixels of a block lie at its centre.
    """
    scale = length / size
    block = (scale / 2).floor_().clamp_min_(1.0)  # pixels
    support = (scale / block).clamp_min_(1.0)  # from here on in blocks
    result = torch.arange(size, device=start.device) + 0.5
    result = torch.where(flip[:, None], size - result, result)  # [b, size]
    centre = (start + result * scale) / block
    pixel = torch.arange(padded, device=start.device)
    place = (pixel / block).floor_()  # [b, padded]
    pixels = torch.minimum(block, count - place * block)  # of its block; the last may have fewer
    gain = torch.where(pixel < count, block / pixels, 0.0)
    weights = (place + 0.5)[:, None, :] - centre[:, :, None]
    weights = (1.0 - weights.abs_().div_(support[:, :, None])).clamp_min_(0.0)
    # In steps of 2⁻¹⁴ their sum does not depend on the order that a device adds them in.
    weights = weights.mul_(gain[:, None, :]).mul_(2**14).round_()
    weights = weights.div_(weights.sum(dim=2, keepdim=True))
    return weights.mul_(2**16).round_().div_(2**16).to(torch.float16)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Batched matrix product, float32: of half-precision factors on a GPU, summed in float32."""
    if a.is_cuda:
        return torch.bmm(a.half(), b.half(), out_dtype=torch.float32)
    return torch.bmm(a.float(), b.float())


def with_pixels(batch: Mapping[str, Any], size: int) -> dict[str, Any]:
    """`batch` with `pixels` uint8 [B, 3, size, size] in the place of what they are cropped from.

    Batches that have pixels already, or no pictures, stay as they are.
    """
    if "place" not in batch:
        return dict(batch)
    place, box, flip, plan = (batch[name] for name in _OF_CROPS)
    flat = batch["encoded"].flat(place.device) if "encoded" in batch else batch["flat"]
    used = {*_OF_CROPS, "flat", "encoded"}
    rest = {name: value for name, value in batch.items() if name not in used}
    return {"pixels": crop_pictures(flat, place, box, flip, size, plan), **rest}
