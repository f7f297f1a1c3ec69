"""Texts become tokens once, in the replica's reader: the model's process gives with them what the
exported model gives by itself, to the bit."""

import random

import numpy as np
import pytest
from toy_classifier import make_classifier

from pipelines.serving import MoMoClassifier, MoMoClassifierReader, MoMoReader, ServedMoMo

WORDS = ["red", "green", "apple", "tree", "two", "cats", "the", "man", "steamy", "room", "blue"]


@pytest.fixture(scope="module")
def texts():
    """Of many lengths, some beyond the model's, some with special tokens in them."""
    draw = random.Random(0)
    lengths = [1, 2, 3, *(draw.randint(1, 90) for _ in range(40)), 300]
    odd = ["🍎" * 50, "a [PAD] b [SEP] [CLS]", "x [PAD]", "a\0b\x07", "\u200b\u1160x"]
    return odd + [" ".join(draw.choices(WORDS, k=length)) for length in lengths]


def tokens_of(reader, texts):
    return [ids for ids, _ in reader.counted(texts)]


def test_vectors_of_tokens_are_those_of_the_texts_to_the_bit(folders, direct, texts):
    reader, encoder = (
        kind(folders["one"], *rest)
        for kind, rest in ((MoMoReader, ()), (ServedMoMo, (1, "cpu", "fp32")))
    )
    tokens = tokens_of(reader, texts)
    np.testing.assert_array_equal(encoder.texts(tokens), direct.embed(texts=texts))
    for text, ids, (_, length) in zip(texts, tokens, reader.counted(texts), strict=True):
        np.testing.assert_array_equal(encoder.texts([ids]), direct.embed(texts=[text]))
        assert length == len(reader.tokenizer.encode(text).ids)
        assert len(ids) == min(length, reader.max_tokens)
    picture = np.arange(3 * 64 * 64, dtype=np.uint8).reshape(3, 64, 64)
    seen = encoder.attention(picture, tokens[1])
    np.testing.assert_array_equal(seen, direct.attention(picture, texts[1]))


def test_a_text_does_not_depend_on_what_else_is_in_its_batch(folders, texts):
    """Rows come back in their own order, whatever lengths they have."""
    encoder = ServedMoMo(folders["one"], 1, "cpu", "fp32")
    tokens = tokens_of(MoMoReader(folders["one"]), texts)
    alone = np.concatenate([encoder.texts([ids]) for ids in tokens])
    np.testing.assert_allclose(encoder.texts(tokens), alone, atol=1e-6)


@pytest.mark.parametrize("inputs", ["text", "image", "pair"])
def test_a_classifier_of_tokens_gives_what_it_gives_of_texts_to_the_bit(
    folders, inputs, tmp_path, texts, noise
):
    (tmp_path / "one").symlink_to(folders["one"])
    direct = make_classifier(tmp_path / "made", inputs)
    reader = MoMoClassifierReader(str(tmp_path / "made"))
    classifier = MoMoClassifier(str(tmp_path / "made"), 1, "cpu", "fp32")
    pictures = [noise(seed) for seed in range(len(texts))]
    given = texts if reader.takes_texts else None, pictures if reader.takes_pictures else None
    found = classifier.classify(
        tokens_of(reader, texts) if reader.takes_texts else None,
        [reader.prepare(picture) for picture in pictures] if reader.takes_pictures else None,
    )
    np.testing.assert_array_equal(found, direct.probabilities(*given))
