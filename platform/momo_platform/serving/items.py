"""From a request's items to texts and pictures, checked against the limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from momo_platform.serving.config import Limits
from momo_platform.serving.errors import ServiceRefusal
from momo_platform.serving.pictures import Pictures, decoded


@dataclass(frozen=True)
class Item:
    """A text, a picture, or both as a pair."""

    text: str | None = None
    picture: Any = None


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


def count(items: Sequence[Item]) -> int:
    """How many texts and pictures there are to encode."""
    return sum((item.text is not None) + (item.picture is not None) for item in items)
