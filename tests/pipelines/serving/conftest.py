"""A small model with an index behind a real endpoint."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import momo
from momo.config import ModelConfig
from momo.export import save
from momo.model import build_model
from momo.tokenizer import train_wordpiece
from momo_platform.machine import free_ports
from momo_platform.serving import Limits
from momo_platform.serving.index import write_index
from pipelines.serve import ServeOptions, deploy

CONFIG = ModelConfig(vocab_size=300, width=32, depth=2, heads=2, embed_dim=24)
WORDS = ["a red apple", "a green tree", "two blue cats", "the man in a steamy room"]
COLOURS = ["red", "green", "blue", "white"]


def make_model(folder, seed):
    """A model whose name ends with its seed."""
    tokenizer = train_wordpiece(WORDS * 5, CONFIG.vocab_size)
    facts = {"artifact": f"toy/{seed}"}
    save(build_model(CONFIG, seed=seed), folder, tokenizer.to_str(), facts)
    return momo.load(folder, "cpu")


def png_uri(picture):
    """A picture as the page and the endpoint take it."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Two models and an index of the first: {"one", "two", "index"}."""
    root = tmp_path_factory.mktemp("serving")
    one = make_model(root / "one", 1)
    make_model(root / "two", 2)
    pictures = [Image.new("RGB", (64, 64), colour) for colour in COLOURS]
    thumbnails = [png_uri(picture) for picture in pictures]
    entries = [{"caption": w, "thumbnail": t} for w, t in zip(WORDS, thumbnails, strict=True)]
    write_index(root / "index", one.embed(images=pictures), entries, "momo-1")
    return {name: str(root / name) for name in ("one", "two", "index")}


@pytest.fixture(scope="module")
def endpoint(folders, ray_local):
    """(options, url) of a running endpoint with one replica; ended with the module, since the
    session's Ray has other tests to serve."""
    from ray import serve

    (port,) = free_ports(1)
    limits = Limits(items=100, body_bytes=2**20, picture_bytes=2**19, text_characters=2**18)
    limits = replace(limits, request_characters=400_000)
    options = ServeOptions(
        model=folders["one"],
        index=folders["index"],
        port=port,
        cpus=0.3,
        limits=replace(limits, queued_items=200, seconds=20),
    )
    try:
        deploy(options)
        yield options, f"http://127.0.0.1:{port}"
    finally:  # a Serve that was started in part would keep its port for the modules after this one
        serve.shutdown()


@pytest.fixture(scope="session")
def direct(folders):
    """The first model without the endpoint."""
    return momo.load(folders["one"], "cpu")


@pytest.fixture
def noise():
    """Random pictures by seed."""

    def picture(seed, width=70, height=50):
        draw = np.random.default_rng(seed)
        return Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))

    return picture
