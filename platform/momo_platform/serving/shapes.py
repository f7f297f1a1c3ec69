"""What is wrong in a field that the schema refused (whose own words name Python's types)."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from momo_platform.serving import schema
from momo_platform.serving.config import Limits
from momo_platform.serving.errors import ServiceRefusal
from momo_platform.serving.items import check_characters, listed, sent_item

_ITEM: TypeAdapter[Any] = TypeAdapter(schema.OneItem)
_ITEMS = '{"image": …}, {"text": …, "image": …}'
_PARTS = (
    'content parts are {"type": "text", "text": …} and '
    '{"type": "image_url", "image_url": {"url": "data:image…;base64,…"}}'
)
_KEYS = {"text", "image", "type", "image_url", "content"}


def check_shapes(value: Any, limits: Limits, name: str = "input") -> None:
    """Raise ServiceRefusal for the first item of a field, as JSON gave it, that is none."""
    values = listed(value, limits, name)
    if all(isinstance(v, int) or (isinstance(v, list) and _all_int(v)) for _, v in values):
        raise ServiceRefusal(
            400,
            f"{name} holds token ids, which other models' tokenizers made: send the text instead "
            "(LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))",
            name,
        )
    texts = []
    for place, one in values:
        try:
            found = _ITEM.validate_python(one)
        except ValidationError:
            raise ServiceRefusal(400, f"{place}{_words(one)}", place) from None
        texts.append(sent_item(found, place).text)
    check_characters(texts, limits, name)


def check_messages(value: Any) -> None:
    """Raise ServiceRefusal where `messages` are none."""
    try:
        TypeAdapter(list[schema.Message]).validate_python(value)
    except ValidationError:
        raise ServiceRefusal(
            400,
            f'messages: give [{{"role": "user", "content": …}}], texts or lists of parts; {_PARTS}',
            "messages",
        ) from None


def _words(value: Any) -> str:
    if not isinstance(value, dict):
        return f": give a text, {_ITEMS}"
    if unknown := sorted(str(key) for key in set(value) - _KEYS):
        return f": unknown {', '.join(unknown)[:100]}"
    if {"type", "content", "image_url"} & set(value):
        return f": {_PARTS}"
    if not isinstance(value.get("text"), str | None):
        return ".text is no text"
    if not isinstance(value.get("image"), str | None):
        return ".image: give a data URI or base64"
    return f": give a text, {_ITEMS}"


def _all_int(values: list[Any]) -> bool:
    return all(isinstance(v, int) for v in values)
