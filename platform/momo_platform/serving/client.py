"""A client of the endpoint: batches, retries, base64 on the wire. Needs no Ray and no model."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from momo_platform.application import variable

Picture = str | os.PathLike[str] | bytes | Image.Image | np.ndarray
"""A file, encoded bytes, a PIL picture, or uint8 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]."""
_RETRIED = (429, 500, 502, 503, 504)
_CHUNK_BYTES = 8 * 2**20


class ServiceError(RuntimeError):
    """The endpoint refused a request for good, or could not be reached; `status` is 0 then."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status or 'no answer'}: {message}")
        self.status = status


class Client:
    """Talks to one endpoint.

    Requests that fail for reasons of the service (no answer, 5xx, too many) are sent again up to
    `retries` times, after what Retry-After says or a growing, jittered wait; embedding twice is
    harmless. `key` defaults to the environment's `API_KEY`, with the application's name before it.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        batch_size: int = 64,
        retries: int = 8,
        timeout: float = 60.0,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: give at least 1")
        self.url, self.batch_size = url.rstrip("/"), batch_size
        self.retries, self.timeout = retries, timeout
        self._key = key if key is not None else os.environ.get(variable("API_KEY"), "")

    def embed(
        self,
        texts: Sequence[str] | None = None,
        images: Sequence[Picture] | None = None,
    ) -> np.ndarray:
        """float32 [N, dimensions]: of texts, of images (`Picture`), or, with both, of as many
        pairs. Raises ServiceError when the endpoint refuses, FileNotFoundError for a picture that
        is not there, TypeError for what is none."""
        if texts is None and images is None:
            raise ValueError("embed takes texts=[...], images=[...] or both")
        one = isinstance(images, str | bytes | os.PathLike | Image.Image)
        if isinstance(texts, str) or one or (isinstance(images, np.ndarray) and images.ndim < 4):
            raise TypeError("embed takes lists: write texts=[text] or images=[image]")
        if texts is not None and images is not None and len(texts) != len(images):
            raise ValueError(f"{len(texts)} texts and {len(images)} images: pairs need as many")
        rows = [np.zeros((0, 0), dtype=np.float32)]
        for items in _chunks(texts, images, self.batch_size):
            answer = self.post("/v1/embeddings", {"input": items, "encoding_format": "base64"})
            data = sorted(answer["data"], key=lambda one: one["index"])
            vectors = [np.frombuffer(base64.b64decode(d["embedding"]), "<f4") for d in data]
            rows.append(np.stack(vectors))
        return np.concatenate(rows[1:]) if len(rows) > 1 else rows[0]

    def similarity(self, texts: Sequence[str], images: Sequence[Any]) -> np.ndarray:
        """Cosines float32 [texts, images]."""
        return self.embed(texts=texts) @ self.embed(images=images).T

    def search(self, query: str | dict[str, str], k: int = 10) -> list[dict[str, Any]]:
        """The nearest entries of the endpoint's index, each with its `score`."""
        return self.post("/v1/search", {"query": query, "k": k})["data"]

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """One JSON request with retries."""
        payload = json.dumps(body).encode()
        for attempt in range(self.retries + 1):
            headers = {"Content-Type": "application/json"}
            if self._key:
                headers["Authorization"] = f"Bearer {self._key}"
            request = urllib.request.Request(self.url + path, payload, headers)
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                status, message = error.code, _message(error)
                after = error.headers.get("Retry-After")
                if status not in _RETRIED:
                    raise ServiceError(status, message) from None
            except (OSError, ValueError) as error:  # no answer, or one that broke off
                status, message, after = 0, str(error), None
            if attempt == self.retries:
                raise ServiceError(status, f"{message} ({attempt + 1} attempts)") from None
            time.sleep(_wait(attempt, after))
        raise AssertionError("unreachable")


def _chunks(
    texts: Sequence[str] | None,
    images: Sequence[Picture] | None,
    size: int,
) -> Iterator[list[Any]]:
    """Requests of at most `size` items and about `_CHUNK_BYTES`."""
    total = len(texts) if texts is not None else len(images or ())
    part: list[Any] = []
    weight = 0
    for index in range(total):
        text = None if texts is None else texts[index]
        item: Any = text
        if images is not None:
            image = {"image": _encoded(images[index])}
            item = image if text is None else {"text": text, **image}
        own = len(text or "") * 4 + (len(item["image"]) if images is not None else 0)
        if part and (len(part) == size or weight + own > _CHUNK_BYTES):
            yield part
            part, weight = [], 0
        part.append(item)
        weight += own
    if part:
        yield part


def _encoded(image: Picture) -> str:
    if isinstance(image, str | os.PathLike):
        raw = Path(image).read_bytes()
    elif isinstance(image, bytes):
        raw = image
    else:
        raw = _as_png(image)
    return base64.b64encode(raw).decode()


def _as_png(image: Any) -> bytes:
    """A PIL picture or a uint8 array, without loss; what is none is a TypeError."""
    array = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim in (2, 3)
    if array and image.shape[2:] in ((), (1,), (3,), (4,)):
        image = Image.fromarray(image[:, :, 0] if image.shape[2:] == (1,) else image)
    if not isinstance(image, Image.Image):
        kind = type(image).__name__
        if isinstance(image, np.ndarray):
            kind = f"an array {image.dtype} {list(image.shape)}"
        raise TypeError(
            f"{kind} is no picture: give a path, encoded bytes, a PIL picture or a NumPy array "
            "uint8 [height, width, channels]"
        )
    written = io.BytesIO()
    exif = image.getexif()  # it may say which way up
    if image.mode in ("CMYK", "YCbCr", "HSV", "LAB", "F"):  # PNG has none of these
        image = image.convert("RGB")
    image.save(written, "PNG", exif=exif)
    return written.getvalue()


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError, OSError):
        return error.reason or "no message"


def _wait(attempt: int, after: str | None) -> float:
    try:
        asked = float(after) if after else 0.0
    except ValueError:
        asked = 0.0
    return max(min(asked, 30.0), min(5.0, 0.1 * 2**attempt) * random.uniform(0.5, 1.0))
