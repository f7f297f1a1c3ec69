"""Encoded pictures: their size, and their pixels as RGB."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_FRAMES = (0xC0, 0xC1, 0xC2)  # of JPEG: baseline, extended, progressive, all by Huffman's codes


def decode(raw: bytes) -> Image.Image:
    """RGB picture from encoded bytes; transparent pixels become white."""
    image = Image.open(io.BytesIO(raw))
    return to_rgb(image)


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


def plain_jpeg_size(raw: bytes) -> tuple[int, int] | None:
    """(width, height) of a JPEG with 8 bits and one or three components; None for all else."""
    if raw[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 10 <= len(raw) and raw[at] == 0xFF:
        marker = raw[at + 1]
        if marker == 0xFF:  # filling
            at += 1
        elif marker in _FRAMES:
            bits, components = raw[at + 4], raw[at + 9]
            height, width = (int.from_bytes(raw[i : i + 2], "big") for i in (at + 5, at + 7))
            plain = bits == 8 and components in (1, 3) and width and height
            return (width, height) if plain else None
        elif 0xC0 < marker < 0xD0 and marker not in (0xC4, 0xC8, 0xCC):
            return None  # lossless or with arithmetic codes
        elif 0xD0 <= marker <= 0xDA or marker < 0xC0:
            return None  # no header goes on like that
        else:
            at += 2 + int.from_bytes(raw[at + 2 : at + 4], "big")
    return None


@dataclass(frozen=True)
class EncodedPicture:
    """A picture of which only the header was read."""

    raw: bytes = field(repr=False)
    width: int
    height: int
    plain_jpeg: bool

    @classmethod
    def of(cls, raw: bytes) -> EncodedPicture:
        """Raises Pillow's `UnidentifiedImageError` for what is no picture."""
        size = plain_jpeg_size(raw)
        if size is not None:
            return cls(raw, *size, plain_jpeg=True)
        return cls(raw, *Image.open(io.BytesIO(raw)).size, plain_jpeg=False)

    def pixels(self) -> np.ndarray:
        """uint8 [height, width, 3]: what `decode` gives, to the bit.

        torchvision decodes a plain JPEG without the copies that Pillow makes, by the same
        library; where it fails, what Pillow makes of the file counts.
        """
        if self.plain_jpeg:
            with contextlib.suppress(RuntimeError, ImportError):
                return _by_torchvision([self.raw])[0].permute(1, 2, 0).numpy()
        return np.asarray(decode(self.raw))


def _by_torchvision(files: Sequence[bytes], device: torch.device | str = "cpu") -> list[Tensor]:
    """JPEG → RGB uint8 [3, height, width] on `device`."""
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    data = [torch.frombuffer(bytearray(raw), dtype=torch.uint8) for raw in files]
    return decode_jpeg(data, mode=ImageReadMode.RGB, device=torch.device(device))  # type: ignore[return-value]


@dataclass(frozen=True)
class EncodedBatch:
    """A batch's pictures for a device that decodes JPEG: plain JPEG as they are, the others decoded
    already, uint8 [height, width, 3]. Stays on the host while the batch is copied.

    nvJPEG's pixels differ from the CPU's by a level or two. It has not run on a GPU yet.
    """

    pictures: tuple[EncodedPicture | np.ndarray, ...]

    @classmethod
    def of(cls, pictures: Sequence[EncodedPicture]) -> EncodedBatch:
        """Decodes what is no plain JPEG."""
        return cls(tuple(p if p.plain_jpeg else p.pixels() for p in pictures))

    def flat(self, device: torch.device) -> Tensor:
        """uint8 [bytes] on `device`: RGB pictures, rows of pixels, one after another; by nvJPEG on
        CUDA. Where it refuses one of them, the CPU decodes them all."""
        import torch

        encoded = [p for p in self.pictures if isinstance(p, EncodedPicture)]
        try:
            decoded = _by_torchvision([p.raw for p in encoded], device) if encoded else []
            found = iter([picture.permute(1, 2, 0) for picture in decoded])
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise  # no picture's fault
        except RuntimeError:
            found = iter([torch.from_numpy(np.array(p.pixels())) for p in encoded])
        parts = [
            next(found) if isinstance(p, EncodedPicture) else torch.from_numpy(np.array(p))
            for p in self.pictures
        ]
        return torch.cat([p.to(device, non_blocking=True).reshape(-1) for p in parts])
