"""What the page is told of an index: examples that the model itself finds."""

import asyncio
import gc
import json
import weakref

import numpy as np
import pytest
from toy_encoder import ToyEncoder, ToyReader

from momo_platform.serving.browse import CAPTIONS, PICTURES
from momo_platform.serving.config import ServingConfig
from momo_platform.serving.encoder import Loaders
from momo_platform.serving.index import write_index
from momo_platform.serving.replica import Replica
from momo_platform.serving.routes import api

THUMBNAIL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="


class Lettered(ToyEncoder):
    """A text's vector is the axis of its first letter."""

    dimensions = 26
    asked = 0

    def texts(self, texts):
        if len(texts[0]) > 1:
            type(self).asked += len(texts)
        return np.eye(26, dtype=np.float32)[[(text[0] - ord("a")) % 26 for text in texts]]


class SameProcess:
    """Stands for the model's process, so that what it was asked can be counted."""

    def __init__(self, kind, folder, threads, device, precision):
        self.model = kind(folder, threads, device, precision)
        self.name, self.dimensions = self.model.name, self.model.dimensions
        self.texts, self.pictures = self.model.texts, self.model.pictures


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """A function: entries and their vectors' axes → what GET /v1/index answers, twice."""
    monkeypatch.setattr("momo_platform.serving.state.ModelProcess", SameProcess)
    monkeypatch.setattr(Lettered, "asked", 0)

    async def get(app, path):
        sent = []
        scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": path}
        scope |= {"headers": [], "query_string": b"", "root_path": ""}

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            sent.append(message)

        await app(scope, receive, send)
        return json.loads(b"".join(m.get("body", b"") for m in sent[1:]))

    async def work(folder):
        replica = Replica(Loaders(Lettered, ToyReader), ServingConfig("x", threads=1))
        await replica.load({"model": "x", "index": folder}, "cpu")
        app = api(replica)
        Lettered.asked = 0
        found = [await get(app, "/v1/index"), await get(app, "/v1/index")]
        asked, old = Lettered.asked, weakref.ref(replica.state)
        await replica.load({"model": "x", "index": folder}, "cpu")
        gc.collect()
        Lettered.asked = asked
        assert old() is None  # and its model's memory with it
        return found

    def ask(entries=(), axes=()):
        folder = ""
        if entries:
            folder = str(tmp_path / "index")
            write_index(tmp_path / "index", np.eye(26)[list(axes)], list(entries), "toy")
        return asyncio.run(work(folder))

    return ask


def named(letters):
    return [{"caption": letter * 4, "thumbnail": THUMBNAIL} for letter in letters]


def test_captions_that_find_their_own_picture_are_the_examples(asked):
    """b, d and f lie where the model looks for them; the others lie elsewhere."""
    first, again = asked(named("abcdefghij"), [9, 1, 0, 3, 2, 5, 25, 24, 23, 22])
    assert first["captions"] == ["bbbb", "dddd", "ffff"]
    assert first["entries"] == 10
    assert first["model"] == "toy"
    assert first["pictures"][0] == {"caption": "aaaa", "thumbnail": THUMBNAIL}
    assert len(first["pictures"]) == PICTURES
    assert again == first
    assert Lettered.asked == 10  # once, not with every visit


def test_a_large_index_is_tried_until_there_are_enough(asked):
    letters = [chr(ord("a") + i % 26) for i in range(2000)]
    entries = [{"caption": f"{c} number {i}"} for i, c in enumerate(letters)]
    entries[0] = {"caption": 7}
    first, _ = asked(entries, [i % 26 for i in range(2000)])
    assert first["pictures"] == []  # entries without thumbnails
    assert len(first["captions"]) <= CAPTIONS
    assert Lettered.asked <= 96
    found = {entry["caption"] for entry in entries}
    assert set(first["captions"]) <= found


def test_without_an_index_there_are_no_examples(asked):
    assert asked()[0] == {
        "object": "index",
        "model": "toy",
        "entries": 0,
        "captions": [],
        "pictures": [],
    }
