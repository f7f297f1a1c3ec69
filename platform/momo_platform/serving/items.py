"""From a request's items to texts and pictures: decoded, checked against the limits."""

from __future__ import annotations

import base64
import binascii
import io
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from PIL import Image, UnidentifiedImageError

from momo_platform.serving.config import Limits
from momo_platform.serving.errors import ServiceRefusal

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


@dataclass(frozen=True)
class Item:
    """A text, a picture, or both as a pair."""

    text: str | None = None
    picture: Any = None


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


class Pictures:
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


def items_in(value: Any) -> int:
    """How many items a request has, before they are read."""
    return len(value) if isinstance(value, list) else 1


def read_items(
    value: Any,
    limits: Limits,
    prepare: Callable[[Image.Image], Any] = lambda picture: picture,
    name: str = "input",
) -> list[Item]:
    """A request's field `name`: a text, an item, or a list of them. Raises ServiceRefusal."""
    values = value if isinstance(value, list) else [value]
    pictures = Pictures(limits, prepare)
    check_shapes(value, limits, name)
    return [_item(v, _place(value, name, i), pictures) for i, v in enumerate(values)]


def _place(value: Any, name: str, index: int) -> str:
    return f"{name}[{index}]" if isinstance(value, list) else name


def check_shapes(value: Any, limits: Limits, name: str = "input") -> None:
    """Raise ServiceRefusal for what is no text, item or list of them, before anything is read."""
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ServiceRefusal(422, f"{name} is empty: give at least one text or item", name)
    if len(values) > limits.items:
        raise ServiceRefusal(
            413, f"{name} has {len(values)} items, {limits.items} are allowed: send several", name
        )
    if all(isinstance(v, int) or (isinstance(v, list) and _all_int(v)) for v in values):
        raise ServiceRefusal(422, f"{name} holds token ids: send the text instead", name)
    characters = 0
    for index, one in enumerate(values):
        place = _place(value, name, index)
        text = one if isinstance(one, str) else _checked_item(one, place).get("text")
        characters += len(text or "")
    if characters > limits.request_characters:
        raise ServiceRefusal(
            413,
            f"the texts have {characters} characters together, {limits.request_characters} are "
            "allowed: send several requests",
            name,
        )


def _all_int(values: list[Any]) -> bool:
    return all(isinstance(v, int) for v in values)


def _checked_item(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ServiceRefusal(
            422, f'{place}: give a text, {{"image": …}} or {{"text": …, "image": …}}', place
        )
    if unknown := sorted(set(value) - {"text", "image"}):
        raise ServiceRefusal(422, f"{place}: unknown {', '.join(unknown)[:100]}", place)
    text, image = value.get("text"), value.get("image")
    if text is None and image is None:
        raise ServiceRefusal(422, f"{place}: neither text nor image", place)
    if text is not None and not isinstance(text, str):
        raise ServiceRefusal(422, f"{place}.text is no text", place)
    if image is not None and not isinstance(image, str):
        raise ServiceRefusal(422, f"{place}.image: give a data URI or base64", place)
    return value


def _item(value: Any, place: str, pictures: Pictures) -> Item:
    limits = pictures.limits
    if isinstance(value, str):
        return Item(text=checked_text(value, place, limits))
    text, image = value.get("text"), value.get("image")
    return Item(
        None if text is None else checked_text(text, f"{place}.text", limits),
        None if image is None else pictures.read(decoded(image, place, limits), place),
    )


def checked_text(text: str, place: str, limits: Limits) -> str:
    """The text, if it has words and is not too long."""
    if len(text) > limits.text_characters:
        raise ServiceRefusal(
            413, f"{place} has {len(text)} characters, {limits.text_characters} are allowed", place
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ServiceRefusal(422, f"{place} is not valid Unicode", place) from None
    if not text.strip():
        raise ServiceRefusal(422, f"{place} is empty", place)
    return text


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


def count(items: Sequence[Item]) -> int:
    """How many texts and pictures there are to encode."""
    return sum((item.text is not None) + (item.picture is not None) for item in items)
