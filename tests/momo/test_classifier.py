"""A fine-tuned classifier is saved with its classes and predicts as it did when it was trained."""

import json

import numpy as np
import pytest
import torch
from making_batches import CONFIG
from PIL import Image

import momo
from momo.evaluation.encoder import Trunk
from momo.evaluation.finetune import Examples, FineTuned, outputs_of
from momo.evaluation.momo_encoder import MoMoEncoder
from momo.export import CONFIG as CONFIG_FILE
from momo.export import save
from momo.model import build_model
from momo.tokenizer import encode_pairs, encode_texts, train_wordpiece
from momo.transforms import stack_pictures

TEXTS = ["a red apple", "a green tree and a red apple", "tree"]
CLASSES = ("fruit", "plant", "neither of them")
TOKENIZER = train_wordpiece([*TEXTS, "is it a tree"] * 3, CONFIG.vocab_size)
PICTURES = [
    Image.fromarray(np.random.default_rng(i).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    for i in range(3)
]


@pytest.fixture(scope="module")
def tuned():
    torch.manual_seed(0)
    return FineTuned(MoMoEncoder(build_model(CONFIG, seed=1), device="cpu").trunk(), 3, 0.5)


def probabilities(tuned, ids, pixels):
    examples = Examples(ids, np.zeros(3, dtype=np.int64), pixels)
    return torch.from_numpy(outputs_of(tuned, examples)).softmax(dim=-1).numpy()


@pytest.mark.parametrize("inputs", ["text", "image", "pair"])
def test_predicts_what_it_did_before_it_was_saved(tuned, inputs, tmp_path):
    length = 9
    momo.save_classifier(
        *(tmp_path, tuned),
        classes=CLASSES,
        inputs=inputs,
        tokenizer_json=None if inputs == "image" else TOKENIZER.to_str(),
        text_length=length,
        extra={"task": "mine"},
    )
    classifier = momo.load_classifier(tmp_path, "cpu")
    texts = None if inputs == "image" else TEXTS
    pictures = None if inputs == "text" else PICTURES
    ids = None if texts is None else encode_texts(TOKENIZER, texts, length)
    pixels = None if pictures is None else stack_pictures(PICTURES, CONFIG.image_size)
    expected = probabilities(tuned, ids, pixels)
    found = classifier.probabilities(texts, pictures)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    for row, prediction in zip(found, classifier.predict(texts, pictures), strict=True):
        assert prediction.label == CLASSES[row.argmax()]
        assert prediction.score == prediction.scores[prediction.label] == pytest.approx(row.max())
        assert list(prediction.scores) == list(CLASSES)
    assert json.loads((tmp_path / CONFIG_FILE).read_text())["task"] == "mine"
    with pytest.raises(ValueError, match=f"was trained on {inputs}s: give "):
        classifier.predict(*((None, PICTURES) if inputs == "text" else (TEXTS,)))


def test_two_sentences_are_read_together(tuned, tmp_path):
    momo.save_classifier(
        tmp_path, tuned, classes=CLASSES, inputs="text", tokenizer_json=TOKENIZER.to_str()
    )
    classifier = momo.load_classifier(tmp_path, "cpu")
    second = ["is it a tree"] * 3
    ids = encode_pairs(TOKENIZER, TEXTS, second, CONFIG.max_text_length)
    found = classifier.probabilities([*zip(TEXTS, second, strict=True)])
    np.testing.assert_allclose(found, probabilities(tuned, ids, None), atol=1e-6)
    assert classifier.predict([]) == []
    with pytest.raises(TypeError, match="texts only, or tuples of two sentences only"):
        classifier.predict(["one", ("a", "b")])
    with pytest.raises(TypeError, match="takes a list"):
        classifier.predict("one")


def test_what_can_not_be_saved_or_loaded_is_named(tuned, tmp_path):
    class Foreign(Trunk):
        width = 4

        def forward(self, ids, pixels):
            raise NotImplementedError

    def write(classifier=tuned, classes=CLASSES, inputs="image"):
        momo.save_classifier(
            tmp_path / "new", classifier, classes=classes, inputs=inputs, tokenizer_json=None
        )

    with pytest.raises(TypeError, match="only a fine-tuned MoMo can be saved, not Foreign"):
        write(FineTuned(Foreign(), 3, 0.0))
    with pytest.raises(ValueError, match="3 class names, 2 of them different"):
        write(classes=["a", "b", "a"])
    with pytest.raises(ValueError, match="inputs='audio': give text, image, pair"):
        write(inputs="audio")
    with pytest.raises(ValueError, match="reads texts: give its tokenizer_json"):
        write(inputs="pair")
    assert not (tmp_path / "new").exists()
    save(build_model(CONFIG), tmp_path / "plain")
    with pytest.raises(ValueError, match="holds a model, but no classifier"):
        momo.load_classifier(tmp_path / "plain")
    write()
    (tmp_path / "new" / "classifier.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"classifier\.safetensors is missing"):
        momo.load_classifier(tmp_path / "new")
