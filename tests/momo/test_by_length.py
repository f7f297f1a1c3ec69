"""Inference on texts of all lengths: little padding is computed, and nothing else changes."""

import numpy as np
import pytest
import torch
from making_batches import CONFIG
from passing_tokens import Passed, unsorted

from momo.by_length import batches_by_length, encode_by_length, text_lengths
from momo.device import to_device
from momo.evaluation.heads import masked_words
from momo.evaluation.momo_encoder import MoMoEncoder
from momo.export import Embedder
from momo.masking import PAD, mask_tokens
from momo.model import mean_of_tokens
from momo.tokenizer import train_wordpiece

TEXT_COUNT = 600


def mixed(count=TEXT_COUNT, seed=0):
    """Texts of 3 to 24 tokens, in any order."""
    g = np.random.default_rng(seed)
    ids = g.integers(5, CONFIG.vocab_size, (count, CONFIG.max_text_length))
    lengths = g.integers(3, CONFIG.max_text_length + 1, count)
    ids[:, 0] = 2
    ids[np.arange(count), lengths - 1] = 3
    return np.where(np.arange(ids.shape[1]) < lengths[:, None], ids, PAD)


def test_batches_hold_each_row_once_and_little_padding():
    lengths = np.random.default_rng(0).integers(1, 65, 1000)
    batches = batches_by_length(lengths, 100, 32)
    assert sorted(np.concatenate(batches)) == list(range(1000))
    assert max(map(len, batches)) <= 100
    assert all((lengths[rows].max() - lengths[rows]).sum() <= 32 for rows in batches)
    longest = [lengths[rows[0]] for rows in batches]
    assert longest == sorted(longest, reverse=True)
    assert len(batches_by_length(lengths, 10_000, 10**9)) == 1
    assert batches_by_length(lengths[:0], 10, 10) == []


def test_a_length_ends_at_the_last_token_wherever_padding_stands():
    present = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]], dtype=bool)
    assert text_lengths(present).tolist() == [2, 4, 3, 1]


def test_results_come_back_in_the_callers_order():
    lengths = np.random.default_rng(0).integers(1, 65, 500)
    found = encode_by_length(lambda rows, _: np.stack([rows, lengths[rows]], 1), lengths, 64,
                             torch.device("cpu"))  # fmt: skip
    np.testing.assert_array_equal(found, np.stack([np.arange(500), lengths], 1))
    with pytest.raises(ValueError, match="no texts to encode"):
        encode_by_length(lambda rows, _: rows, lengths[:0], 64, torch.device("cpu"))


def test_features_and_embeddings_of_texts_compute_no_padding(model):
    ids, encoder = mixed(), MoMoEncoder(model, device="cpu")
    features = unsorted(lambda x: mean_of_tokens(model.encode_text(x, x != PAD), x != PAD), ids)
    vectors = unsorted(lambda x: model.embed_text(x, x != PAD), ids)
    for encode, expected in ((encoder.text_features, features), (encoder.embed_ids, vectors)):
        passed = Passed(model.blocks[0].mlp.fc1)
        np.testing.assert_allclose(encode(ids), expected, atol=1e-5)
        assert (ids != PAD).sum() <= passed.tokens <= 1.1 * (ids != PAD).sum()


def test_matching_computes_no_padding_and_takes_pictures_by_their_rows(model):
    ids, pictures = (
        mixed(),
        np.random.default_rng(0).integers(0, 256, (7, 3, 32, 32), dtype=np.uint8),
    )
    picture = np.random.default_rng(0).integers(0, 7, len(ids))
    encoder = MoMoEncoder(model, device="cpu")
    expected = unsorted(encoder._match, pictures[picture], ids)
    passed = Passed(model.blocks[0].mlp.fc1)
    np.testing.assert_allclose(encoder.match(pictures, ids, picture=picture), expected, atol=1e-5)
    real = (ids != PAD).sum() + len(ids) * (1 + CONFIG.num_patches)
    assert real <= passed.tokens <= 1.02 * real
    np.testing.assert_allclose(encoder.match(pictures[picture], ids), expected, atol=1e-5)


def test_masked_words_compute_no_padding_and_are_those_of_the_texts_alone(model):
    ids = mixed()
    passed = Passed(model.blocks[0].mlp.fc1)
    found = masked_words(MoMoEncoder(model, device="cpu"), ids)
    assert passed.tokens <= 1.1 * (ids != PAD).sum()
    # As they come, in one batch: which words are hidden is up to each text's noise.
    noise = np.random.Generator(np.random.Philox(0)).random((*ids.shape, 3), dtype=np.float32)
    whole, cpu = torch.from_numpy(ids), torch.device("cpu")
    masked = mask_tokens(whole, whole != PAD, to_device(noise, cpu), vocab_size=CONFIG.vocab_size)
    with torch.inference_mode():
        tokens = model.encode_text(masked.ids, whole != PAD)
        right = model.word_logits(tokens[masked.selected]).argmax(-1) == whole[masked.selected]
    np.testing.assert_array_equal(found.row, masked.selected.nonzero()[:, 0].numpy())
    np.testing.assert_array_equal(found.right, right.numpy())
    # The first ten alone: the same outcomes.
    few = masked_words(MoMoEncoder(model, device="cpu"), ids[:10])
    np.testing.assert_array_equal(few.right, found.right[found.row < 10])


def test_the_exported_model_computes_no_padding(model):
    words = train_wordpiece(["a red apple", "a green tree"] * 5, CONFIG.vocab_size)
    g = np.random.default_rng(0)
    texts = ["a " * n for n in g.integers(1, 20, TEXT_COUNT)]
    embedder = Embedder(model, words)
    alone = np.concatenate([embedder.embed(texts=[text]) for text in texts[:20]])
    passed = Passed(model.blocks[0].mlp.fc1)
    found = embedder.embed(texts=texts, batch_size=100)
    assert passed.tokens <= 1.1 * sum(len(text) // 2 + 2 for text in texts)
    np.testing.assert_allclose(found[:20], alone, atol=1e-5)


def test_the_model_for_transformers_computes_no_padding_on_cpus(model):
    from momo.hf.configuration import MoMoConfig
    from momo.hf.modeling import MoMoModel

    theirs = MoMoModel(MoMoConfig.from_model_config(CONFIG)).eval()
    theirs.network.load_state_dict(model.state_dict())
    ids = torch.from_numpy(mixed())
    expected = theirs.get_text_features(ids)  # with a gradient: as it comes
    assert expected.requires_grad
    passed = Passed(theirs.network.blocks[0].mlp.fc1)
    with torch.no_grad():
        found = theirs.get_text_features(ids)
        assert passed.tokens <= 1.1 * int((ids != PAD).sum())
        turned = theirs.get_text_features(ids.flip(1), ids.flip(1) != PAD)
    torch.testing.assert_close(found, expected.detach(), atol=1e-5, rtol=0)
    assert turned.shape == found.shape  # padded at the left: nothing is cut off
