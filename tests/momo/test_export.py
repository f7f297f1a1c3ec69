"""What an engineer does with an exported model."""

import numpy as np
import pytest
from making_batches import CONFIG
from PIL import Image

import momo
from momo.export import load_model, open_picture, save
from momo.model import build_model
from momo.tokenizer import train_wordpiece
from momo.transforms import to_rgb


@pytest.fixture
def exported(tmp_path):
    tokenizer = train_wordpiece(["a red apple", "a green tree"] * 5, CONFIG.vocab_size)
    model = build_model(CONFIG, seed=1)
    save(model, tmp_path / "model", tokenizer.to_str(), {"commit": "abc"})
    return tmp_path / "model", model


def test_weights_and_config_come_back(exported):
    folder, model = exported
    loaded = load_model(folder)
    assert loaded.config == CONFIG
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        assert loaded.state_dict()[name].equal(tensor), name


def test_texts_are_cut_to_the_length_of_training(exported):
    folder, model = exported
    tokenizer = (folder / "tokenizer.json").read_text()
    save(model, folder, tokenizer, {"text_length": 6})
    embedder = momo.load(folder, "cpu")
    long, cut = "a red apple a green tree", "a red apple a"
    same = embedder.embed(texts=[long, cut])
    np.testing.assert_allclose(same[0], same[1], atol=1e-6)
    whole = momo.load(folder, "cpu")
    whole.text_length = CONFIG.max_text_length
    assert np.abs(whole.embed(texts=[long]) - same[:1]).max() > 1e-3


def test_unit_vectors_that_do_not_depend_on_the_batch(exported, tmp_path):
    embedder = momo.load(exported[0], "cpu")
    texts = ["a red apple", "tree", "a green tree and a red apple " * 9]
    together = embedder.embed(texts=texts)
    assert together.shape == (3, CONFIG.embed_dim)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, rtol=1e-5)
    for row, text in enumerate(texts):
        np.testing.assert_allclose(embedder.embed(texts=[text])[0], together[row], atol=1e-5)
    picture = Image.new("RGB", (50, 40), (200, 30, 30))
    picture.save(tmp_path / "red.png")
    images = embedder.embed(images=[picture, str(tmp_path / "red.png")], batch_size=1)
    np.testing.assert_allclose(images[0], images[1], atol=1e-6)
    similarity = embedder.similarity(texts, [picture])
    np.testing.assert_allclose(similarity[:, 0], together @ images[0], atol=1e-5)
    assert embedder.embed(texts=[]).shape == (0, CONFIG.embed_dim)


def test_one_text_must_still_be_a_list(exported):
    with pytest.raises(TypeError, match=r"texts=\[text\]"):
        momo.load(exported[0], "cpu").embed(texts="abc")


def test_mistakes_are_named(exported, tmp_path):
    folder, _ = exported
    embedder = momo.load(folder, "cpu")
    with pytest.raises(ValueError, match="texts=.*images=.*or both"):
        embedder.embed()
    with pytest.raises(FileNotFoundError, match=r"absent\.png"):
        embedder.embed(images=[tmp_path / "absent.png"])
    (tmp_path / "torn.png").write_bytes(b"\x89PNG not a picture")
    with pytest.raises(ValueError, match=r"torn\.png is not a readable picture"):
        embedder.embed(images=[tmp_path / "torn.png"])
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors is missing"):
        momo.load(folder, "cpu")


def test_pictures_are_opened_as_those_trained_on_were(exported, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90°
    exif[0x829A] = 1.5  # exposure time: read back as a ratio that can't be packed again
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert open_picture(tmp_path / "turned.jpg").size == (20, 40)
    deep = Image.fromarray(np.full((16, 16), 0x8000, np.uint16))
    assert to_rgb(deep).getpixel((0, 0)) == (128, 128, 128)
