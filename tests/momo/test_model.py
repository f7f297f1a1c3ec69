import dataclasses
import subprocess
import sys

import pytest
import torch
from making_batches import CONFIG, make_batch

from momo.config import SIZES, ModelConfig
from momo.embeddings import (
    normalise_pixels,
    normalised_patches,
    patchify,
    take_tokens,
    unpatchify,
)
from momo.model import MoMo, build_model, encoder_parameters
from momo.packing import lay_out


@pytest.mark.parametrize("size, millions", [("base", 109.6), ("large", 335.1), ("small", 33.6)])
def test_parameter_counts(size, millions):
    with torch.device("meta"):
        model = MoMo(SIZES[size])
    assert encoder_parameters(model) == pytest.approx(millions * 1e6, rel=0.01)


def test_demo_has_about_one_and_a_half_million_parameters():
    assert 1.3e6 < sum(p.numel() for p in MoMo(SIZES["demo"]).parameters()) < 1.8e6


def test_patches_of_bytes_are_those_of_normalised_pictures():
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    found = normalised_patches(pixels, 8)
    assert found.is_contiguous()
    assert torch.equal(found, patchify(normalise_pixels(pixels), 8))


def test_patchify_is_undone_and_matches_a_convolution_of_the_timm_layout():
    pixels = torch.rand(2, 3, 32, 32)
    patches = patchify(pixels, 8)
    assert torch.equal(unpatchify(patches, 8), pixels)
    weight = torch.rand(5, 3, 8, 8)
    expected = torch.nn.functional.conv2d(pixels, weight, stride=8).flatten(2).transpose(1, 2)
    flat = weight.permute(0, 2, 3, 1).reshape(5, -1)
    torch.testing.assert_close(patches @ flat.T, expected)


def test_padding_does_not_change_a_text_or_a_pair(model):
    batch = make_batch("pair")
    pixels = batch["pixels"].float() / 255
    ids = batch["ids"][:1, :6].clone()
    ids[:, 5] = 3
    padded = torch.nn.functional.pad(ids, (0, 7))
    padded_junk = padded.clone()
    padded_junk[:, 6:] = 50
    mask = padded != 0
    short = model.encode_text(ids, ids != 0)
    torch.testing.assert_close(model.encode_text(padded_junk, mask)[:, :6], short)
    image, text = model.encode_pair(pixels[:1], ids, ids != 0)
    image_padded, text_padded = model.encode_pair(pixels[:1], padded_junk, mask)
    torch.testing.assert_close(image_padded, image)
    torch.testing.assert_close(text_padded[:, :6], text)
    torch.testing.assert_close(model.embed_text(padded, mask), model.embed_text(ids, ids != 0))


def test_masked_patches_never_enter_the_encoder(model):
    pixels = torch.rand(2, 3, 32, 32)
    keep = torch.tensor([[0, 3, 7], [1, 2, 15]])
    tokens = model.encode_image(pixels, keep)
    assert tokens.shape == (2, 4, CONFIG.width)
    patches = patchify(pixels, 8)
    hidden = torch.ones(2, 16, dtype=torch.bool).scatter(1, keep, False)
    patches[hidden] = 9.0
    assert torch.equal(model.encode_image(unpatchify(patches, 8), keep), tokens)


@pytest.mark.parametrize("tower_depth", [0, 1])
@pytest.mark.parametrize("recomputed", [None, "elementwise", "blocks"])
def test_encoding_apart_in_the_same_products_equals_encoding_one_by_one(recomputed, tower_depth):
    model = build_model(dataclasses.replace(CONFIG, tower_depth=tower_depth))
    if recomputed:
        model.enable_activation_checkpointing(recomputed)
    batch = make_batch("pair", rows=3)
    pixels, ids = batch["pixels"].float() / 255, batch["ids"][:2]
    mask = ids != 0
    assert not mask.all()

    def gradients(image, text):
        assert image.shape[0] == 3
        assert text.shape[0] == 2
        (image.square().mean() + text[mask].square().mean()).backward()
        named = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        return {"image": image.detach(), "text": text.detach()[mask]} | named

    embedded = model.image_embedding(pixels), model.text_embedding(ids)
    texts = lay_out(mask.sum(dim=1), tuple(mask.sum(dim=1).tolist()), group=True)

    def together_with(image):
        text = model.text_embedding.packed(ids[texts.row, texts.place], texts.place)
        seen, read = model.encode_apart(image, text, texts)
        return seen, texts.padded(read, ids.shape[1])[0]

    together = gradients(*together_with(embedded[0]))
    apart = gradients(model.encode_image(pixels), model.encode_text(ids, mask))
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-6)
    with torch.inference_mode():
        image, text = together_with(model.image_embedding(pixels))
    torch.testing.assert_close(image, together["image"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(text[mask], together["text"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("grad", [True, False])
def test_the_last_block_makes_only_the_wanted_tokens_of_a_pair(grad, model):
    batch = make_batch("pair", rows=3)
    image = model.image_embedding(batch["pixels"].float() / 255)
    text, mask = model.text_embedding(batch["ids"]), batch["ids"] != 0
    wanted = torch.tensor([[0, 5, 18], [1, 2, 17], [0, 16, 20]])
    with torch.set_grad_enabled(grad):
        some = model.encode_joint(image, text, mask, wanted)
        everything = model.encode_joint(image, text, mask)
    torch.testing.assert_close(some, take_tokens(everything, wanted))


@pytest.mark.parametrize(("rows", "at_once"), [(5, 50), (5, 10), (2, 10_000), (0, 50)])
def test_inference_in_parts_equals_all_at_once(rows, at_once, model, monkeypatch):
    batch = make_batch("pair", rows=max(rows, 1))
    image = model.image_embedding(batch["pixels"].float() / 255)[:rows]
    ids = batch["ids"][:rows]
    text, mask = model.text_embedding(ids), ids != 0
    wanted = torch.tensor([0, 5, 18]).expand(rows, -1)
    whole = model.encode_joint(image, text, mask, wanted)
    monkeypatch.setattr("momo.model.CPU_TOKENS", at_once)
    with torch.inference_mode():
        parts = model.encode_joint(image, text, mask, wanted)
    torch.testing.assert_close(parts, whole)


def test_pair_tokens_see_the_other_modality(model):
    batch = make_batch("pair", rows=2)
    pixels, ids = batch["pixels"].float() / 255, batch["ids"]
    image, text = model.encode_pair(pixels, ids, ids != 0)
    other_image, other_text = model.encode_pair(pixels.flip(0), ids, ids != 0)
    assert not torch.allclose(text, other_text, atol=1e-4)
    other_image, _ = model.encode_pair(pixels, ids.flip(0), ids.flip(0) != 0)
    assert not torch.allclose(image, other_image, atol=1e-4)


def test_same_seed_same_weights_and_global_generator_untouched():
    state = torch.random.get_rng_state()
    a, b = build_model(CONFIG, 3), build_model(CONFIG, 3)
    assert torch.equal(state, torch.random.get_rng_state())
    for left, right in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(left, right)


def test_wrong_sizes_are_refused_with_the_remedy(model):
    with pytest.raises(ValueError, match=r"multiple of model\.patch_size"):
        ModelConfig(image_size=50)
    with pytest.raises(ValueError, match="resize"):
        model.encode_image(torch.rand(1, 3, 16, 16))
    with pytest.raises(ValueError, match="max_text_length"):
        model.encode_text(torch.ones(1, 25, dtype=torch.long), torch.ones(1, 25).bool())
    with pytest.raises(ValueError, match="widht"):
        ModelConfig.from_dict({"widht": 3})
    assert ModelConfig.from_dict(CONFIG.to_dict()) == CONFIG
    assert dataclasses.replace(CONFIG, width=64) != CONFIG


def test_import_of_momo_and_its_config_takes_no_torch():
    code = "import sys, momo, momo.config; assert not {'torch', 'ray', 'timm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
