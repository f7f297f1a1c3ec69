"""From what a request gives to what the model takes: checked against the limits, read once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

from momo_platform.serving.config import Limits
from momo_platform.serving.encoder import InputReader, Tokens
from momo_platform.serving.errors import ServiceRefusal
from momo_platform.serving.pictures import read_pictures

_DATA_URI = re.compile(r"\s*data:[\w.+-]+/[\w.+-]+[;,]", re.IGNORECASE)


@dataclass(frozen=True)
class Item:
    """As the model takes it: a text's tokens, a prepared picture, or both, of a pair. `truncated`:
    what refusals would call its text, where the model reads only its beginning."""

    text: Tokens | None = None
    picture: Any = None
    truncated: str = ""


@dataclass(frozen=True)
class Sent:
    """As it was sent: a text, a picture (base64 or a data URI, or its bytes), or both. `place`,
    `text_place` and `image_place` are what refusals call the item, its text and its picture."""

    place: str
    text: str | None = None
    image: str | bytes | None = None
    text_place: str = ""
    image_place: str = ""

    def checked_text(self, limits: Limits) -> str | None:
        """The text, if it has words and is not too long."""
        text, place = self.text, self.text_place or self.place
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
            raise ServiceRefusal(400, f"{place} is not valid Unicode", place) from None
        if not text.strip():
            raise ServiceRefusal(400, f"{place} is empty", place)
        if _DATA_URI.match(text):
            raise ServiceRefusal(400, f"{place} is a data URI: send it as a picture", place)
        return text


def of_string(value: str, place: str) -> Sent:
    """A plain string: a data URI is a picture, anything else a text."""
    if _DATA_URI.match(value):
        return Sent(place, image=value.strip())
    return Sent(place, value)


class ItemSchema(Protocol):
    """A kind of item that is a JSON object: a model of `schema.py`."""

    def sent(self, place: str) -> Sent:
        """What it gives; `place` is what refusals call it."""
        ...


Given = str | ItemSchema | Sequence[str | ItemSchema]
"""A validated field of a request: a text, an item, or a list of them."""


def sent_items(given: Given, limits: Limits, name: str = "input") -> list[Sent]:
    """The items of a request's field `name`. Raises what `sent_fields` does."""
    return sent_fields(limits, **{name: given})


def sent_fields(limits: Limits, **fields: Given) -> list[Sent]:
    """The items of a request's fields, one after the other. Raises ServiceRefusal for a field with
    none or too many, and for texts of all fields that are too long together."""
    sent: list[Sent] = []
    for name, given in fields.items():
        sent += [sent_item(value, place) for place, value in listed(given, limits, name)]
        check_characters((one.text for one in sent), limits, name)
    return sent


def sent_item(value: str | ItemSchema, place: str) -> Sent:
    """Raises ServiceRefusal for an item that is neither a text nor a picture."""
    if isinstance(value, str):
        return of_string(value, place)
    one = value.sent(place)
    if one.text is None and one.image is None:
        raise ServiceRefusal(400, f"{place}: neither text nor image", place)
    return one


def read_items(
    sent: Sequence[Sent],
    limits: Limits,
    reader: InputReader,
    wanted: tuple[bool, bool] | None = None,
    truncate: bool = True,
) -> list[Item]:
    """Each item as `reader`'s model takes it; texts become tokens here and nowhere else. `wanted`:
    whether every item must have a text and a picture, or neither of them. `truncate=False`: texts
    that are longer than the model reads are refused. Raises ServiceRefusal."""
    texts = [one.checked_text(limits) for one in sent]
    for one in sent:
        if wanted not in (None, (one.text is not None, one.image is not None)):
            names = [n for n, is_wanted in zip(("text", "image"), wanted, strict=True) if is_wanted]
            raise ServiceRefusal(
                400, f"{one.place}: the classifier takes {' and '.join(names)}", one.place
            )
    tokens = iter(_tokens(sent, texts, limits, reader, truncate))
    encoded = [(o.image_place or o.place, o.image) for o in sent if o.image is not None]
    pictures = iter(read_pictures(encoded, limits, reader.prepare))
    items = []
    for one, text in zip(sent, texts, strict=True):
        ids, truncated = (None, "") if text is None else next(tokens)
        items.append(Item(ids, None if one.image is None else next(pictures), truncated))
    return items


def _tokens(
    sent: Sequence[Sent],
    texts: Sequence[str | None],
    limits: Limits,
    reader: InputReader,
    truncate: bool,
) -> list[tuple[Tokens, str]]:
    """Of each text its tokens, and its place where it was cut."""
    places = [one.text_place or one.place for one in sent]
    there = [(p, text) for p, text in zip(places, texts, strict=True) if text is not None]
    found: list[tuple[Tokens, str]] = []
    counted = reader.counted([text for _, text in there]) if there else ()
    for (place, _), (ids, length) in zip(there, counted, strict=True):
        if length > len(ids) and not truncate:
            raise ServiceRefusal(
                400,
                f"{place} has {length} tokens, the model reads {reader.max_tokens}: shorten it, or "
                "leave out `truncate`",
                place,
                "context_length_exceeded",
            )
        found.append((ids, place if length > len(ids) else ""))
    fields = (one.place for one, text in zip(sent, texts, strict=True) if text is not None)
    totals = list(accumulate(len(ids) for ids, _ in found))
    for field, total in zip(fields, totals, strict=True):
        if total > limits.request_tokens:
            raise ServiceRefusal(
                413,
                f"the texts have {totals[-1]} tokens together, {limits.request_tokens} are "
                "allowed: send several requests",
                field.partition("[")[0],
            )
    return found


def tokens_of(items: Iterable[Item]) -> int:
    """Of all texts together, those that the model reads."""
    return sum(len(item.text) for item in items if item.text is not None)


def listed(value: Any, limits: Limits, name: str) -> list[tuple[str, Any]]:
    """Each item with its place. Raises ServiceRefusal for none and for too many."""
    if not isinstance(value, list):
        return [(name, value)]
    if not value:
        raise ServiceRefusal(400, f"{name} is empty: give at least one text or item", name)
    if len(value) > limits.items:
        raise ServiceRefusal(
            413, f"{name} has {len(value)} items, {limits.items} are allowed: send several", name
        )
    return [(f"{name}[{index}]", one) for index, one in enumerate(value)]


def check_characters(texts: Iterable[str | None], limits: Limits, name: str) -> None:
    """Raise ServiceRefusal for texts that are too long together."""
    characters = sum(len(text or "") for text in texts)
    if characters > limits.request_characters:
        raise ServiceRefusal(
            413,
            f"the texts have {characters} characters together, {limits.request_characters} are "
            "allowed: send several requests",
            name,
        )
