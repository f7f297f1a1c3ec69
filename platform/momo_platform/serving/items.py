"""From what a request gives to what the model takes: checked against the limits, read once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from momo_platform.serving.config import Limits
from momo_platform.serving.encoder import InputReader, Tokens
from momo_platform.serving.errors import ServiceRefusal
from momo_platform.serving.pictures import PictureReader, decoded


@dataclass(frozen=True)
class Item:
    """As the model takes it: a text's tokens, a prepared picture, or both, of a pair."""

    text: Tokens | None = None
    picture: Any = None


@dataclass(frozen=True)
class Sent:
    """As it was sent: a text, a picture (base64 or a data URI, or its bytes), or both.
    `place` and `text_place` are what refusals call the item and its text."""

    place: str
    text_place: str
    text: str | None = None
    image: str | bytes | None = None

    def checked_text(self, limits: Limits) -> str | None:
        """The text, if it has words and is not too long."""
        text, place = self.text, self.text_place
        if text is None:
            return None
        if len(text) > limits.text_characters:
            raise ServiceRefusal(
                413,
                f"{place} has {len(text)} characters, {limits.text_characters} are allowed",
                place,
            )
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise ServiceRefusal(422, f"{place} is not valid Unicode", place) from None
        if not text.strip():
            raise ServiceRefusal(422, f"{place} is empty", place)
        return text

    def prepared_picture(self, pictures: PictureReader) -> Any:
        """The picture as the model takes it; None where there is none."""
        if self.image is None:
            return None
        raw = self.image
        if isinstance(raw, str):
            raw = decoded(raw, self.place, pictures.limits)
        return pictures.read(raw, self.place)


class ItemSchema(Protocol):
    """A kind of item that is a JSON object: a model of `schema.py`."""

    def sent(self, place: str) -> Sent:
        """What it gives; `place` is what refusals call it."""
        ...


Given = str | ItemSchema | Sequence[str | ItemSchema]
"""A validated field of a request: a text, an item, or a list of them."""


def items_in(given: Given) -> int:
    """How many items a field has."""
    return len(given) if isinstance(given, list) else 1


def sent_items(given: Given, limits: Limits, name: str = "input") -> list[Sent]:
    """The items of a request's field `name`. Raises ServiceRefusal for none, for too many and for
    texts that are too long together."""
    values = _listed(given, limits, name)
    sent = [_sent(value, place) for place, value in values]
    _check_characters((one.text for one in sent), limits, name)
    return sent


def _sent(value: str | ItemSchema, place: str) -> Sent:
    one = Sent(place, place, value) if isinstance(value, str) else value.sent(place)
    _check_any(one.text, one.image, place)
    return one


def read_items(
    sent: Sequence[Sent],
    limits: Limits,
    reader: InputReader,
    wanted: tuple[bool, bool] | None = None,
) -> list[Item]:
    """Each item as `reader`'s model takes it; texts become tokens here and nowhere else. `wanted`:
    whether every item must have a text and a picture, or neither of them. Raises ServiceRefusal."""
    pictures = PictureReader(limits, reader.prepare)
    read = [(one.checked_text(limits), one.prepared_picture(pictures)) for one in sent]
    for one, (text, picture) in zip(sent, read, strict=True):
        if wanted not in (None, (text is not None, picture is not None)):
            names = [n for n, is_wanted in zip(("text", "image"), wanted, strict=True) if is_wanted]
            raise ServiceRefusal(
                422, f"{one.place}: the classifier takes {' and '.join(names)}", one.place
            )
    texts = [text for text, _ in read if text is not None]
    tokens = iter(reader.tokens(texts) if texts else ())
    return [Item(None if text is None else next(tokens), picture) for text, picture in read]


def check_shapes(value: Any, limits: Limits, name: str = "input") -> None:
    """Raise ServiceRefusal for what is wrong in a field that the schema refused, as JSON gave it.
    (The schema's own words name Python's types.)"""
    values = _listed(value, limits, name)
    if all(isinstance(v, int) or (isinstance(v, list) and _all_int(v)) for _, v in values):
        raise ServiceRefusal(422, f"{name} holds token ids: send the text instead", name)
    _check_characters([_text_of(one, place) for place, one in values], limits, name)


def _listed(value: Any, limits: Limits, name: str) -> list[tuple[str, Any]]:
    """Each item with its place."""
    if not isinstance(value, list):
        return [(name, value)]
    if not value:
        raise ServiceRefusal(422, f"{name} is empty: give at least one text or item", name)
    if len(value) > limits.items:
        raise ServiceRefusal(
            413, f"{name} has {len(value)} items, {limits.items} are allowed: send several", name
        )
    return [(f"{name}[{index}]", one) for index, one in enumerate(value)]


def _check_characters(texts: Iterable[str | None], limits: Limits, name: str) -> None:
    characters = sum(len(text or "") for text in texts)
    if characters > limits.request_characters:
        raise ServiceRefusal(
            413,
            f"the texts have {characters} characters together, {limits.request_characters} are "
            "allowed: send several requests",
            name,
        )


def _all_int(values: list[Any]) -> bool:
    return all(isinstance(v, int) for v in values)


def _text_of(value: Any, place: str) -> str | None:
    """An item's text. Raises ServiceRefusal for what is no item."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise ServiceRefusal(
            422, f'{place}: give a text, {{"image": …}} or {{"text": …, "image": …}}', place
        )
    if unknown := sorted(set(value) - {"text", "image"}):
        raise ServiceRefusal(422, f"{place}: unknown {', '.join(unknown)[:100]}", place)
    text, image = value.get("text"), value.get("image")
    if text is not None and not isinstance(text, str):
        raise ServiceRefusal(422, f"{place}.text is no text", place)
    if image is not None and not isinstance(image, str):
        raise ServiceRefusal(422, f"{place}.image: give a data URI or base64", place)
    _check_any(text, image, place)
    return text


def _check_any(text: Any, image: Any, place: str) -> None:
    if text is None and image is None:
        raise ServiceRefusal(422, f"{place}: neither text nor image", place)
