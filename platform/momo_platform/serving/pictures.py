"""Pictures as they are sent: checked against the limits, decoded, prepared for the model."""

from __future__ import annotations

import base64
import binascii
import io
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from momo_platform.serving.config import Limits
from momo_platform.serving.errors import ServiceRefusal

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF")
# Compressed texts in a PNG are read when it is opened: 64 MiB of each unless told otherwise.
PngImagePlugin.MAX_TEXT_MEMORY = 2**20


class _PixelBudget:
    """So many pixels at once, over all threads of a process; a larger picture waits to be alone."""

    def __init__(self) -> None:
        self._held, self._changed = 0, threading.Condition()

    @contextmanager
    def hold(self, pixels: int, most: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + pixels <= most // 4)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()


_DECODING = _PixelBudget()


def read_pictures(
    encoded: Sequence[tuple[str, str | bytes]],
    limits: Limits,
    prepare: Callable[[Image.Image], Any],
) -> list[Any]:
    """The pictures of one request, (what refusals call it, base64 or bytes) each → what the model
    takes.

    The sizes of all are read first: more pixels than a request may have are refused before one is
    decoded. Then one after the other is opened and prepared for the model, so that no two are open
    at once. Raises ServiceRefusal.
    """
    pictures, left = [], limits.request_pixels
    for place, given in encoded:
        raw = decoded(given, place, limits) if isinstance(given, str) else given
        pixels = _pixels(raw, place, limits)
        left -= pixels
        if left < 0:
            raise ServiceRefusal(
                413,
                f"the pictures have more than {limits.request_pixels} pixels together: send "
                "several requests",
                place,
            )
        pictures.append((raw, pixels, place))
    return [_prepared(raw, pixels, place, limits, prepare) for raw, pixels, place in pictures]


def _pixels(raw: bytes, place: str, limits: Limits) -> int:
    with opened(raw, place, limits) as picture:
        return picture.width * picture.height


def _prepared(
    raw: bytes, pixels: int, place: str, limits: Limits, prepare: Callable[[Image.Image], Any]
) -> Any:
    try:
        with (
            _DECODING.hold(pixels, limits.request_pixels),
            opened(raw, place, limits) as picture,
        ):
            picture.load()
            return prepare(picture)
    except ServiceRefusal:
        raise
    except Exception:  # noqa: BLE001 - decoders raise many kinds on malformed bytes
        raise ServiceRefusal(400, f"{place} can't be decoded: it is damaged", place) from None


def decoded(image: str, place: str, limits: Limits) -> bytes:
    """The bytes of a data URI or of base64. URLs are never fetched."""
    if image[:16].lower().startswith(("http://", "https://", "file:", "ftp://")):
        raise ServiceRefusal(
            400,
            f"{place} is a URL, which is not fetched: send the picture's bytes as a data URI",
            place,
        )
    if image[:5].lower() == "data:":
        head, comma, image = image.partition(",")
        head = head.lower()
        if not comma or not head.endswith(";base64"):
            raise ServiceRefusal(400, f"{place}: a data URI must be base64", place)
        if not head.startswith("data:image/"):
            raise ServiceRefusal(415, f"{place}: the data URI is not of a picture", place)
    if len(image) * 3 // 4 > limits.picture_bytes + 3:
        raise _too_large(place, limits)
    try:
        return base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError):
        hint = ": it has line breaks (`base64 -w0` writes none)" if "\n" in image else ""
        raise ServiceRefusal(400, f"{place} is not base64{hint}", place) from None


def _too_large(place: str, limits: Limits) -> ServiceRefusal:
    return ServiceRefusal(413, f"{place}: {limits.picture_bytes} bytes are allowed", place)


def opened(raw: bytes, place: str, limits: Limits) -> Image.Image:
    """The picture, not decoded yet. Raises ServiceRefusal for what is none, or would be larger than
    allowed when decoded."""
    if len(raw) > limits.picture_bytes:
        raise _too_large(place, limits)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of size: checked below, before anything is decoded
            picture = Image.open(io.BytesIO(raw), formats=FORMATS)
            width, height = picture.size
            if width * height > limits.pixels:
                raise ServiceRefusal(
                    413,
                    f"{place} is {width} × {height}, {limits.pixels} pixels are allowed",
                    place,
                )
            return picture
    except ServiceRefusal:
        raise
    except Image.DecompressionBombError:
        raise ServiceRefusal(
            413, f"{place} is too large, {limits.pixels} pixels are allowed", place
        ) from None
    except UnidentifiedImageError:
        raise ServiceRefusal(415, f"{place} is none of {', '.join(FORMATS)}", place) from None
    except Exception:  # noqa: BLE001 - decoders raise many kinds on malformed bytes
        raise ServiceRefusal(400, f"{place} can't be decoded: it is damaged", place) from None
