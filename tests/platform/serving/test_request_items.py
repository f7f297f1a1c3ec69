"""Items, limits, keys, index and the client's retries: no Ray, no model."""

import base64
import http.server
import io
import json
import struct
import threading
import weakref
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from pydantic import TypeAdapter, ValidationError

from momo_platform.serving import (
    Client,
    Limits,
    ServiceError,
    ServingConfig,
    items,
    pictures,
    schema,
    shapes,
)
from momo_platform.serving.client import _encoded
from momo_platform.serving.config import hashed, is_known, read_keys
from momo_platform.serving.encoder import joined
from momo_platform.serving.errors import ServiceRefusal
from momo_platform.serving.index import read_index, write_index
from momo_platform.stages import UserError

LIMITS = Limits(
    items=4, text_characters=50, picture_bytes=20_000, pixels=10_000, request_pixels=15_000
)


def png(width=8, height=6, kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(file, kind)
    return file.getvalue()


def bomb(width=30_000, height=30_000):
    """A PNG that says it is huge; its data are few."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def in_base64(raw):
    return base64.b64encode(raw).decode()


class AsTheyAre:
    """A reader that leaves texts and pictures alone."""

    max_tokens = 1000

    def counted(self, texts):
        return [(text, len(text)) for text in texts]

    def prepare(self, picture):
        return picture


def read_items(value, limits):
    """As the endpoint does: what its schema refuses, it refuses in words of its own."""
    try:
        given = TypeAdapter(schema.Input).validate_python(value)
    except ValidationError:
        shapes.check_shapes(value, limits)
        raise
    return items.read_items(items.sent_items(given, limits), limits, AsTheyAre())


def test_texts_pictures_and_pairs_are_read():
    uri = "data:image/png;base64," + in_base64(png())
    items = read_items(["a", {"image": uri}, {"image": in_base64(png()), "text": "b"}], LIMITS)
    assert [item.text for item in items] == ["a", None, "b"]
    assert items[1].picture.size == items[2].picture.size == (8, 6)
    assert sum((item.text is not None) + (item.picture is not None) for item in items) == 4
    assert read_items("alone", LIMITS)[0].text == "alone"
    for kind in ("JPEG", "WEBP", "GIF", "BMP", "AVIF"):
        assert read_items({"image": in_base64(png(kind=kind))}, LIMITS)[0].picture is not None


@pytest.mark.parametrize(
    "value, status, words",
    [
        ([], 400, "empty"),
        (["a"] * 5, 413, "5 items, 4 are allowed"),
        ([1, 2], 400, "token ids"),
        ("", 400, "is empty"),
        (" \n\t", 400, "is empty"),
        ("x" * 51, 413, "51 characters"),
        ("\ud800", 400, "Unicode"),
        ({"picture": "x"}, 400, "unknown picture"),
        ({}, 400, "neither text nor image"),
        ({"text": 3}, 400, "no text"),
        ([["a"]], 400, "give a text"),
        ({"image": "http://a/b.png"}, 400, "not fetched"),
        ({"image": "file:///etc/passwd"}, 400, "not fetched"),
        ({"image": "data:image/png,abc"}, 400, "must be base64"),
        ({"image": "data:text/html;base64,AAAA"}, 415, "not of a picture"),
        ({"image": "%%%"}, 400, "not base64"),
        ({"image": in_base64(b"no picture at all")}, 415, "none of PNG"),
        ({"image": in_base64(png(64, 64)[:-30])}, 400, "damaged"),
        ({"image": in_base64(b"\0" * 30_000)}, 413, "20000 bytes"),
        ({"image": in_base64(png(200, 200))}, 413, "200 × 200"),
        ([{"image": in_base64(png(90, 90))}] * 2, 413, "15000 pixels together"),
        ({"image": in_base64(bomb())}, 413, "too large"),
        ({"image": in_base64(bomb(9_000, 9_000))}, 413, "9000 × 9000"),
    ],
)
def test_what_is_refused_says_why(value, status, words):
    with pytest.raises(ServiceRefusal, match=words) as error:
        read_items(value, LIMITS)
    assert error.value.status == status
    assert isinstance(error.value.body()["error"]["code"], str)


def test_pictures_are_open_one_at_a_time(monkeypatch):
    ever, really = [], pictures.opened

    def counted(*arguments):
        assert not any(one() for one in ever)
        found = really(*arguments)
        ever.append(weakref.ref(found))
        return found

    monkeypatch.setattr(pictures, "opened", counted)
    sent = [(f"input[{i}]", png()) for i in range(3)]
    found = pictures.read_pictures(sent, LIMITS, lambda picture: picture.size)
    assert found == [(8, 6)] * 3


def test_a_picture_that_unpacks_to_much_text_is_refused():
    facts = PngImagePlugin.PngInfo()
    for i in range(3):
        facts.add_text(f"k{i}", "x" * 900_000, zip=True)
    file = io.BytesIO()
    Image.new("RGB", (8, 6)).save(file, "PNG", pnginfo=facts)
    assert status_of({"image": in_base64(file.getvalue())}) == 400


def status_of(value):
    try:
        read_items(value, LIMITS)
    except ServiceRefusal as refusal:
        return refusal.status
    return 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(JSON | st.fixed_dictionaries({"image": st.text(max_size=40) | st.binary().map(in_base64)}))
def test_anything_is_read_or_refused(value):
    assert status_of(value) in (200, 400, 413, 415)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_picture_is_read_or_refused(data):
    raw = bytearray(
        png(kind=data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "BMP", "AVIF"])))
    )
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(1, len(raw)))]
    assert status_of({"image": in_base64(bytes(raw))}) in (200, 400, 413, 415)


def test_keys_are_hashed_private_and_compared_whole(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# ours\nsecret-one\n\nsecret-two\n")
    file.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        read_keys(str(file))
    file.chmod(0o600)
    keys = read_keys(str(file))
    assert keys == (hashed("secret-one"), hashed("secret-two"))
    assert is_known("secret-two", keys)
    assert not is_known("secret", keys)
    assert not is_known("", keys)
    assert not is_known("\ud800", keys)
    file.write_text("# none\n")
    with pytest.raises(UserError, match="no key"):
        read_keys(str(file))
    with pytest.raises(UserError, match="No such file"):
        read_keys(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="SHA-256"):
        ServingConfig("m", keys=("secret",))


def test_a_pair_lies_between_its_text_and_its_picture():
    text, picture = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    np.testing.assert_allclose(joined(text, picture), [0.5**0.5, 0.5**0.5])
    assert np.isfinite(joined(text, -text)).all()


def test_an_index_finds_the_nearest_exactly(tmp_path):
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(70_000, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    write_index(tmp_path / "i", vectors, [{"caption": str(i)} for i in range(len(vectors))], "m")
    index = read_index(tmp_path / "i")
    query = vectors[69_999]
    found = index.search(query, 5)
    expected = np.argsort(-(vectors @ query), kind="stable")[:5]
    assert [entry["caption"] for _, entry in found] == [str(i) for i in expected]
    assert found[0][0] == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(ValueError, match="give as many"):
        write_index(tmp_path / "j", vectors[:2], [], "m")
    (tmp_path / "i" / "entries.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match="for 1 entries"):
        read_index(tmp_path / "i")
    with pytest.raises(ValueError, match="holds no index"):
        read_index(tmp_path / "none")


@pytest.fixture
def flaky():
    """A server that answers each status of its list once, then embeds everything as (1, 2)."""

    class Handler(http.server.BaseHTTPRequestHandler):
        statuses: list[int] = []  # noqa: RUF012
        bodies: list[dict] = []  # noqa: RUF012

        def do_POST(self):
            length = int(self.headers["Content-Length"])
            self.bodies.append(json.loads(self.rfile.read(length)))
            status = self.statuses.pop(0) if self.statuses else 200
            if status == 0:
                self.close_connection = True
                return
            vector = base64.b64encode(np.array([1, 2], "<f4").tobytes()).decode()
            rows = [{"index": i, "embedding": vector} for i in range(len(self.bodies[-1]["input"]))]
            answer = {"data": rows[::-1]} if status == 200 else {"error": {"message": "because"}}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_client_batches_and_tries_again(flaky, tmp_path):
    handler, url = flaky
    handler.statuses[:] = [503, 0, 500]
    client = Client(url, batch_size=2, key="k")
    assert client.embed(texts=["a", "b", "c"]).tolist() == [[1, 2]] * 3
    assert [len(b["input"]) for b in handler.bodies] == [2, 2, 2, 2, 1]
    (tmp_path / "x.png").write_bytes(png())
    client.embed(texts=["t"], images=[tmp_path / "x.png"])
    assert handler.bodies[-1]["input"] == [{"text": "t", "image": in_base64(png())}]
    assert client.embed(texts=[]).shape == (0, 0)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "CMYK"])
def test_the_client_sends_pil_pictures_and_arrays_as_they_are(mode):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 4), dtype=np.uint8)
    picture = Image.fromarray(pixels).convert(mode)
    picture.getexif()[0x0112] = 6
    sent = Image.open(io.BytesIO(base64.b64decode(_encoded(picture))))
    assert sent.getexif()[0x0112] == 6
    if mode != "CMYK":
        assert np.array_equal(sent, picture)
        array = np.asarray(picture)
        again = Image.open(io.BytesIO(base64.b64decode(_encoded(array))))
        assert np.array_equal(again, array)


@pytest.mark.parametrize("wrong", [3, np.zeros((4, 4, 3)), np.zeros((3, 8, 8), np.uint8), None])
def test_the_client_refuses_what_is_no_picture(wrong):
    with pytest.raises(TypeError, match="is no picture: give a path, encoded bytes"):
        _encoded(wrong)


def test_the_client_sends_no_larger_bodies_than_it_must(flaky):
    handler, url = flaky
    picture = b"\0" * 5 * 2**20
    Client(url).embed(images=[picture] * 3)
    assert [len(b["input"]) for b in handler.bodies[-3:]] == [1, 1, 1]


def test_the_client_gives_up_where_trying_again_is_no_use(flaky):
    handler, url = flaky
    handler.statuses[:] = [400]
    with pytest.raises(ServiceError, match="400: because"):
        Client(url).embed(texts=["a"])
    handler.statuses[:] = [503] * 3
    with pytest.raises(ServiceError, match=r"503: because \(3 attempts\)"):
        Client(url, retries=2).embed(texts=["a"])
    with pytest.raises(ServiceError, match="no answer"):
        Client("http://127.0.0.1:9", retries=1).embed(texts=["a"])
    with pytest.raises(ValueError, match="need as many"):
        Client(url).embed(texts=["a"], images=[])
    with pytest.raises(TypeError, match="lists"):
        Client(url).embed(texts="a")
