"""A model as mteb asks for one; mteb itself is not needed here."""

import sys
import types

import numpy as np
import pytest
from PIL import Image

import momo
from momo.config import ModelConfig
from momo.evaluation.mteb_encoder import MtebEncoder
from momo.export import save
from momo.model import build_model
from momo.tokenizer import train_wordpiece

TEXTS = ["a red apple", "a green tree beside a house", "two cats"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("mteb") / "model"
    config = ModelConfig(vocab_size=300, width=32, depth=2, heads=2, embed_dim=24)
    words = train_wordpiece(TEXTS * 5, config.vocab_size)
    save(build_model(config), place, words.to_str(), {"artifact": "toy/1"})
    return str(place)


@pytest.fixture(scope="module")
def encoder(folder):
    return MtebEncoder(folder, device="cpu")


def test_the_longest_text_is_what_a_caption_is_cut_to(encoder, monkeypatch):
    told = types.SimpleNamespace(create_empty=lambda facts: facts)
    for name in ("mteb", "mteb.models"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    module = types.ModuleType("mteb.models.model_meta")
    module.ModelMeta = told
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(encoder.encoder, "caption_length", 7)
    assert encoder.mteb_model_meta["max_tokens"] == 7


@pytest.fixture
def pictures():
    """One of them on its side, by its EXIF data, and one with transparency."""
    draw = np.random.default_rng(0)
    found = [
        Image.fromarray(draw.integers(0, 256, (40 + i, 30, 3), dtype=np.uint8)) for i in range(3)
    ]
    found[1].getexif()[0x0112] = 6
    found[2] = found[2].convert("RGBA")
    return found


def test_its_vectors_are_the_models_own(folder, encoder, pictures):
    own = momo.load(folder, "cpu")
    batches = [{"text": TEXTS[:2]}, {"text": TEXTS[2:]}]
    found = encoder.encode(batches, task_metadata=None, hf_split="test", hf_subset="default")
    np.testing.assert_allclose(found, own.embed(texts=TEXTS), atol=1e-6)
    found = encoder.encode([{"image": pictures}])
    np.testing.assert_allclose(found, own.embed(images=pictures), atol=1e-6)
    found = encoder.encode([{"text": TEXTS, "image": pictures}])
    np.testing.assert_allclose(found, own.embed(texts=TEXTS, images=pictures), atol=1e-6)
    with pytest.raises(ValueError, match="audio: give texts, pictures or both"):
        encoder.encode([{"audio": [1]}])


def test_similarities_are_cosines(encoder):
    first, second = encoder.encode([{"text": TEXTS}]), encoder.encode([{"text": TEXTS[:2]}])
    np.testing.assert_allclose(encoder.similarity(first, second), first @ second.T, atol=1e-6)
    assert encoder.similarity(first[0], second).shape == (1, 2)
    found = encoder.similarity_pairwise(first[:2], second)
    np.testing.assert_allclose(found, [1.0, 1.0], atol=1e-6)
