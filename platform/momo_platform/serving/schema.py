"""Requests, for validation and for the OpenAPI document. Unknown fields are refused: what one asks
for and does not get would be silent otherwise. `answers.py` has the answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from momo_platform.serving.errors import ServiceRefusal
from momo_platform.serving.items import Given, Sent, of_string


class Strict(BaseModel):
    """Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class PictureOrPair(Strict):
    """A picture, or a picture with its text."""

    image: str | None = Field(
        None, description="A data URI or base64; PNG, JPEG, WebP, GIF, BMP, AVIF."
    )
    text: str | None = None

    def sent(self, place: str) -> Sent:
        """`momo_platform.serving.items.ItemSchema`."""
        return Sent(place, self.text, self.image, f"{place}.text", f"{place}.image")


class TextPart(Strict):
    """A text, as chat requests have it."""

    type: Literal["text"]
    text: str

    def sent(self, place: str) -> Sent:
        """`momo_platform.serving.items.ItemSchema`."""
        return Sent(place, self.text, text_place=f"{place}.text")


class ImageUrl(Strict):
    url: str = Field(description="A data URI: data:image/png;base64,… Nothing is fetched.")
    detail: str | None = None


class ImagePart(Strict):
    """A picture, as chat requests have it."""

    type: Literal["image_url"]
    image_url: ImageUrl | str

    def sent(self, place: str) -> Sent:
        """`momo_platform.serving.items.ItemSchema`."""
        url = self.image_url if isinstance(self.image_url, str) else self.image_url.url
        return Sent(place, image=url, image_place=f"{place}.image_url")


Parts = Annotated[list[TextPart | ImagePart], Field(max_length=100, fail_fast=True)]


class Content(Strict):
    """Parts that make one item: a text, a picture, or a pair."""

    content: str | Parts

    def sent(self, place: str) -> Sent:
        """`momo_platform.serving.items.ItemSchema`."""
        return _together([self], place)


class Message(Content):
    """Of a chat."""

    role: str = "user"
    name: str | None = None


class Conversation(BaseModel):
    """All messages together are one item."""

    messages: list[Message]

    def sent(self, place: str) -> Sent:
        """`momo_platform.serving.items.ItemSchema`."""
        return _together(self.messages, place)


def _together(contents: list[Content] | list[Message], place: str) -> Sent:
    """Texts in lines, one picture at most. Raises ServiceRefusal for more."""
    parts = []
    for one in contents:
        if isinstance(one.content, str):
            parts.append(of_string(one.content, place))
        else:
            parts += [part.sent(place) for part in one.content]
    texts = [part.text for part in parts if part.text is not None]
    images = [part for part in parts if part.image is not None]
    if len(images) > 1:
        raise ServiceRefusal(400, f"{place} has {len(images)} pictures, one is allowed", place)
    image = images[0] if images else Sent(place)
    return Sent(
        *(place, "\n".join(texts) if texts else None, image.image),
        *("", image.image_place),
    )


OneItem = str | PictureOrPair | TextPart | ImagePart | Content
# Fail fast: a list of a million wrong items makes one error, not a million.
Items = Annotated[list[OneItem], Field(max_length=10_000, fail_fast=True)]
Input = OneItem | Items
Model = Annotated[str | None, Field(description="Must be the model served, where it is given.")]


class ReadRequest(Strict):
    """What all requests with texts have."""

    model: Model = None
    truncate: bool | None = Field(
        None,
        description="Texts longer than the model reads (`max_tokens` of /v1/models) are cut, and "
        "the answer's `truncated` names them; false: they are refused.",
    )

    @property
    def cuts(self) -> bool:
        """Whether long texts are cut."""
        return self.truncate is not False


class EmbeddingsRequest(ReadRequest):
    """OpenAI's, with pictures and pairs: `input`, or `messages` for one item."""

    input: Input | None = None
    messages: Annotated[list[Message], Field(max_length=100, fail_fast=True)] | None = None
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: int | None = Field(
        None, ge=1, description="The first so many, of length 1 again; at most the model's own."
    )
    user: str | None = None

    def given(self) -> tuple[Given, str]:
        """What is to be embedded, and its field. Raises ServiceRefusal for none and for both."""
        if (self.input is None) == (self.messages is None):
            raise ServiceRefusal(400, "give input, or messages instead", "input")
        if self.messages is not None:
            return Conversation(messages=self.messages), "messages"
        assert self.input is not None
        return self.input, "input"


class SimilarityRequest(ReadRequest):
    """Cosines of all of `a` with all of `b`."""

    a: Input
    b: Input


class SearchRequest(ReadRequest):
    """The nearest entries of the index."""

    query: OneItem
    k: int = Field(10, ge=1)


class RerankRequest(ReadRequest):
    """Cohere's and Jina's, with pictures and pairs."""

    query: OneItem
    documents: Items
    top_n: int | None = Field(None, ge=1, description="The best so many; all unless told.")
    return_documents: bool | None = Field(None, description="Texts of documents come with them.")


class AttentionRequest(Strict):
    """Where the model looks in a picture, given a text or none."""

    image: str
    text: str | None = None
    model: Model = None

    def sent(self, place: str) -> Sent:
        """`momo_platform.serving.items.ItemSchema`."""
        return Sent(place, self.text or None, self.image, "text", "image")


class ClassifyRequest(ReadRequest):
    """As `/v1/embeddings` takes. Without `labels`: of texts, pictures or pairs those that the
    classifier reads, among its classes. With them: zero-shot, by the model."""

    input: Input
    labels: Annotated[list[str], Field(min_length=1, max_length=10_000)] | None = Field(
        None, description="Names of classes."
    )
    template: str | None = Field(
        None, description="A sentence with {} where a label goes, e.g. a photo of a {}."
    )
