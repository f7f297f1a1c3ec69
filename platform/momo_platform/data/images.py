"""One picture: verified, oriented, on a background, RGB, capped in size, encoded."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from momo_platform.data.config import ImageConfig
from momo_platform.data.encodings import to_utf8
from momo_platform.data.near import look_of
from momo_platform.data.renderer import draw

EXTENSIONS = (
    *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".svg", ".tif", ".tiff", ".avif", ".jfif"),
    *(".jpe", ".jp2", ".j2k", ".ico", ".ppm", ".pgm", ".pbm", ".pnm", ".dib", ".apng"),
)
LARGEST_FILE = 2**28  # encoded bytes of one picture
_MAX_PIXELS = 178_956_970  # Pillow's own bound on decompression bombs
_MOST_BYTES = 2**30
# A pixel's bytes at most while it is decoded and made RGB, by mode; others on a background take 20.
_PIXEL_BYTES = {"1": 5, "L": 5, "RGB": 4, "CMYK": 8, "YCbCr": 8, "I;16": 10, "I;16B": 10, "I": 14}
# Not all that Pillow opens: EPS, for one, would start a program on the file.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO")


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImage(ValueError):
    """A picture that can't be used; the message is the reason."""


def _rasterise(raw: bytes, config: ImageConfig) -> Image.Image:
    try:
        data = draw(to_utf8(raw).decode("utf-8"), config.size_cap)
    except ValueError as error:  # also what is not UTF-8
        raise BadImage(f"not a readable SVG: {error}") from error
    return Image.open(io.BytesIO(data))


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(f for f in _FORMATS if f in Image.OPEN)  # not every build of Pillow has all


def _open(raw: bytes) -> Image.Image:
    return Image.open(io.BytesIO(raw), formats=_formats())


def _upright(picture: Image.Image) -> Image.Image:
    """Turned as its EXIF orientation says. `ImageOps.exif_transpose` also writes the EXIF anew,
    and fails where some other field of it is malformed."""
    turn = _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    return picture if turn is None else picture.transpose(turn)


def _eight_bits(picture: Image.Image) -> Image.Image:
    """16-bit greyscale (`I;16`, and `I` as Pillow opens some PNG) scaled to 8 bits, not clipped.

    Floating-point pictures have no fixed scale: theirs is from the least to the greatest value.
    """
    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        # `I` may hold 8-bit values: only what exceeds them is 16-bit.
        shift = 8 if picture.mode != "I" or values.max() > 255 else 0
        scaled = np.empty(values.shape, np.uint8)
        for row, line in zip(
            scaled, values, strict=True
        ):  # the whole of it in wider numbers is large
            row[:] = line.clip(0, 65535) >> shift
        return Image.fromarray(scaled)
    if picture.mode == "F":
        values = np.asarray(picture)
        known = values[np.isfinite(values)]
        if not known.size:
            raise BadImage("none of its values is a number")
        low, high = float(known.min()), float(known.max())
        values = np.nan_to_num(values, nan=low, posinf=high, neginf=low).astype(np.float64) - low
        return Image.fromarray((values * (255.0 / max(high - low, 1e-12))).astype(np.uint8))
    return picture


def _on_background(picture: Image.Image, background: str) -> Image.Image:
    """RGB; what is transparent shows the background."""
    if picture.mode in ("RGB", "L", "1", "CMYK", "YCbCr") and "transparency" not in picture.info:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    rgba = picture.convert("RGBA")
    canvas = Image.new("RGBA", rgba.size, background)
    canvas.alpha_composite(rgba)
    return canvas.convert("RGB")


def _capped(picture: Image.Image, size_cap: int) -> Image.Image:
    """With a shorter side of at most `size_cap`."""
    shorter = min(picture.size)
    if shorter <= size_cap:
        return picture
    size = tuple(max(1, round(side * (size_cap / shorter))) for side in picture.size)
    return picture.resize(size, Image.Resampling.BICUBIC)  # type: ignore[arg-type]


def _encoded(picture: Image.Image, config: ImageConfig) -> bytes:
    buffer = io.BytesIO()
    try:
        if config.encoding == "png":
            picture.save(buffer, "PNG")
        else:
            picture.save(buffer, "JPEG", quality=config.jpeg_quality)
    except (OSError, ValueError) as error:  # JPEG has no side above 65,500
        size = f"{picture.width}×{picture.height}"
        raise BadImage(f"{size} can't be kept as {config.encoding}: {error}") from error
    return buffer.getvalue()


@dataclass(frozen=True)
class PreparedImage:
    """Encoded bytes, the size before it was capped (of an SVG: as drawn), and `near.look_of` it."""

    image: bytes
    width: int
    height: int
    look: bytes | None


def prepare_image(raw: bytes, config: ImageConfig, *, svg: bool = False) -> bytes:
    """The encoded bytes alone of `prepare_picture`."""
    return prepare_picture(raw, config, svg=svg).image


def prepare_picture(raw: bytes, config: ImageConfig, *, svg: bool = False) -> PreparedImage:
    """Encoded bytes in, encoded bytes out; never scaled up.

    Raises BadImage for bytes that are no picture, are truncated or are larger than 179 Mpixel.
    What a decoder can do to its process, it does to this one: strangers' pictures are for
    `contained.prepare_pictures`.
    """
    if not raw:
        raise BadImage("the file is empty")
    if len(raw) > LARGEST_FILE:
        raise BadImage(f"larger than {LARGEST_FILE >> 20} MB")
    try:
        picture = _rasterise(raw, config) if svg else _open(raw)
        if picture.width * picture.height > _MAX_PIXELS:
            raise BadImage(f"too many pixels: {picture.width}×{picture.height}")
        needed = picture.width * picture.height * _PIXEL_BYTES.get(picture.mode, 20)
        if needed > _MOST_BYTES:
            size = f"{picture.width}×{picture.height} in mode {picture.mode}"
            raise BadImage(
                f"too many pixels: {size} need {needed / 2**30:.1f} GB, at most 1 is taken"
            )
        picture.load()
        result = _on_background(_eight_bits(_upright(picture)), config.background)
        width, height = result.size
        result = _capped(result, config.size_cap)
        encoded = _encoded(result, config)
    except BadImage:
        raise
    except Image.DecompressionBombError as error:  # from the header: nothing was decoded
        raise BadImage(f"too many pixels: {error}") from None
    except UnidentifiedImageError:
        raise BadImage("not a picture in a known format") from None
    except MemoryError:
        raise BadImage("there is not enough memory for it") from None
    except Exception as error:  # Pillow's decoders raise many kinds on malformed bytes
        raise BadImage(f"damaged or truncated: {error}") from error
    return PreparedImage(encoded, width, height, look_of(result))
