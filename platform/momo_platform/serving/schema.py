"""Requests and answers, for validation and for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from momo_platform.serving.items import Sent

Data = TypeVar("Data")


class PictureOrPair(BaseModel):
    """A picture, or a picture with its text."""

    model_config = ConfigDict(extra="forbid")
    image: str | None = Field(None, description="A data URI or base64; PNG, JPEG, WebP, GIF, BMP.")
    text: str | None = None

    def sent(self, place: str) -> Sent:
        """`momo_platform.serving.items.ItemSchema`."""
        return Sent(place, f"{place}.text", self.text, self.image)


# Fail fast: a list of a million wrong items makes one error, not a million.
Items = Annotated[list[str | PictureOrPair], Field(max_length=10_000, fail_fast=True)]
Input = str | PictureOrPair | Items


class EmbeddingsRequest(BaseModel):
    """OpenAI's, with pictures and pairs."""

    input: Input
    model: str | None = Field(None, description="Must be the model served, where it is given.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, description="Must be the model's own, where it is given.")
    user: str | None = None


class SimilarityRequest(BaseModel):
    """Cosines of all of `a` with all of `b`."""

    a: Input
    b: Input
    model: str | None = None


class SearchRequest(BaseModel):
    """The nearest entries of the index."""

    query: str | PictureOrPair
    k: int = Field(10, ge=1)
    model: str | None = None


class AttentionRequest(BaseModel):
    """Where the model looks in a picture, given a text or none."""

    image: str
    text: str | None = None

    def sent(self, place: str) -> Sent:
        """`momo_platform.serving.items.ItemSchema`."""
        return Sent(place, f"{place}.text", self.text or None, self.image)


class ClassifyRequest(BaseModel):
    """As `/v1/embeddings` takes: of texts, pictures or pairs those that the classifier reads."""

    input: Input
    model: str | None = Field(None, description="Must be the classifier's, where it is given.")


class Embedding(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens of the texts; pictures have none."""

    prompt_tokens: int
    total_tokens: int


class _ListAnswer(BaseModel, Generic[Data]):
    object: Literal["list"] = "list"
    data: list[Data]
    model: str
    usage: Usage


class EmbeddingsAnswer(_ListAnswer[Embedding]):
    pass


class SimilarityAnswer(_ListAnswer[list[float]]):
    pass


class SearchAnswer(_ListAnswer[dict[str, Any]]):
    pass


class AttentionAnswer(BaseModel):
    object: Literal["attention"] = "attention"
    data: list[list[float]]
    model: str


class Classification(BaseModel):
    """The most probable class, its probability, and those of all classes."""

    object: Literal["classification"] = "classification"
    index: int
    label: str
    score: float
    scores: dict[str, float]


class ClassifyAnswer(_ListAnswer[Classification]):
    pass


class ModelCard(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "local"
    dimensions: int
    index_entries: int
    device: str
    precision: str


class Models(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class Health(BaseModel):
    status: str


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: int


class ErrorAnswer(BaseModel):
    error: ErrorDetail
