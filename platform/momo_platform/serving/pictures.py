"""Pictures as they are sent: decoded, checked against the limits, prepared for the model."""

from __future__ import annotations

import base64
import binascii
import io
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image, UnidentifiedImageError

from momo_platform.serving.config import Limits
from momo_platform.serving.errors import ServiceRefusal

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


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


class PictureReader:
    """Decodes the pictures of one request and prepares each for the model at once, so that none is
    kept at its full size; refuses more than the request's pixels."""

    def __init__(self, limits: Limits, prepare: Callable[[Image.Image], Any]) -> None:
        self.limits, self.prepare, self.left = limits, prepare, limits.request_pixels

    def read(self, raw: bytes, place: str) -> Any:
        """One encoded picture → what the model takes."""
        picture = opened(raw, place, self.limits)
        self.left -= picture.width * picture.height
        if self.left < 0:
            raise ServiceRefusal(
                413,
                f"the pictures have more than {self.limits.request_pixels} pixels together: send "
                "several requests",
                place,
            )
        try:
            with _DECODING.hold(picture.width * picture.height, self.limits.request_pixels):
                picture.load()
                return self.prepare(picture)
        except Exception:  # noqa: BLE001 - decoders raise many kinds on malformed bytes
            raise ServiceRefusal(
                422, f"{place}.image can't be decoded: it is damaged", place
            ) from None


def decoded(image: str, place: str, limits: Limits) -> bytes:
    """The bytes of a data URI or of base64. URLs are never fetched."""
    if image[:16].lower().startswith(("http://", "https://", "file:", "ftp://")):
        raise ServiceRefusal(
            422, f"{place}.image is a URL, which is not fetched: send the picture's bytes", place
        )
    if image[:5].lower() == "data:":
        head, comma, image = image.partition(",")
        head = head.lower()
        if not comma or not head.endswith(";base64"):
            raise ServiceRefusal(422, f"{place}.image: a data URI must be base64", place)
        if not head.startswith("data:image/"):
            raise ServiceRefusal(415, f"{place}.image: the data URI is not of a picture", place)
    if len(image) * 3 // 4 > limits.picture_bytes + 3:
        raise _too_large(place, limits)
    try:
        return base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError):
        hint = ": it has line breaks (`base64 -w0` writes none)" if "\n" in image else ""
        raise ServiceRefusal(422, f"{place}.image is not base64{hint}", place) from None


def _too_large(place: str, limits: Limits) -> ServiceRefusal:
    return ServiceRefusal(413, f"{place}.image: {limits.picture_bytes} bytes are allowed", place)


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
                    f"{place}.image is {width} × {height}, {limits.pixels} pixels are allowed",
                    place,
                )
            return picture
    except ServiceRefusal:
        raise
    except Image.DecompressionBombError:
        raise ServiceRefusal(
            413, f"{place}.image is too large, {limits.pixels} pixels are allowed", place
        ) from None
    except UnidentifiedImageError:
        raise ServiceRefusal(415, f"{place}.image is none of {', '.join(FORMATS)}", place) from None
    except Exception:  # noqa: BLE001 - decoders raise many kinds on malformed bytes
        raise ServiceRefusal(422, f"{place}.image can't be decoded: it is damaged", place) from None
