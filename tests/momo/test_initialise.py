"""Starting from timm's weights and from our own exports; what does not fit is said beforehand."""

import dataclasses
import hashlib
import json
import subprocess
import sys

import pytest
import timm
import torch
from making_batches import CONFIG, make_batch
from safetensors.torch import save_file
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from tokenizers import Tokenizer

from momo.config import SIZES, ModelConfig, TaskConfig
from momo.export import save
from momo.initialise import check_initial, fitted, load_initial, origin_of, words_of
from momo.initialise.fill import _resized
from momo.model import MoMo, build_model
from momo.tasks import MoMoTask
from momo.tokenizer import train_wordpiece

SHAPE = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}


def vit(**more):
    """A vision transformer of timm, tiny, with random weights."""
    torch.manual_seed(0)
    model = VisionTransformer(**SHAPE, num_classes=0, **more).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture
def mae(tmp_path):
    """The layout of `vit_base_patch16_224.mae`, and a file of it."""
    model = vit()
    save_file(model.state_dict(), tmp_path / "mae.safetensors")
    return model, tmp_path / "mae.safetensors"


def pixels(size=32):
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


def unchanged(model, before):
    return all(torch.equal(p, before[n]) for n, p in model.named_parameters())


@torch.no_grad()
def test_image_features_equal_those_of_timm_and_the_rest_stays(model, mae):
    theirs, file = mae
    before = {n: p.clone() for n, p in model.named_parameters()}
    origin = load_initial(model, file)
    tokens = model.encode_image(pixels())
    torch.testing.assert_close(tokens, theirs.forward_features(pixels()), atol=1e-5, rtol=1e-5)
    for name, parameter in model.named_parameters():
        encoder = name.startswith(("blocks.", "norm.", "image_embedding."))
        assert torch.equal(parameter, before[name]) != encoder, name
    assert origin.kind == "a ViT of timm"
    assert origin.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert origin == check_initial(file, CONFIG).origin


@pytest.mark.parametrize(
    "more, shape",
    [
        ({"init_values": 0.3}, {}),
        ({"qkv_bias": False}, {}),
        ({"no_embed_class": True}, {}),
        ({"pre_norm": True, "act_layer": "quick_gelu"}, {"activation": "quick_gelu"}),
        ({"class_token": False, "global_pool": "avg", "fc_norm": False}, {}),
        ({"mlp_ratio": 2.55}, {"mlp_ratio": 2.55}),
    ],
    ids=["LayerScale", "no-bias", "no-position-for-cls", "norm-before", "no-cls", "mlp"],
)
@torch.no_grad()
def test_variants_of_timm_are_exact(more, shape, tmp_path):
    theirs = vit(**more)
    torch.save({"model": theirs.state_dict()}, tmp_path / "vit.pth")
    shape = shape | {"image_norm": "pre_norm" in more, "class_attention": "class_token" in more}
    model = build_model(dataclasses.replace(CONFIG, **shape), seed=1)
    load_initial(model, tmp_path / "vit.pth")
    tokens, expected = model.encode_image(pixels()), theirs.forward_features(pixels())
    found = tokens[:, 1:] if "class_token" in more else tokens
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_config_is_fitted_to_shapes_and_to_a_size_that_patches_divide(mae):
    shape = ModelConfig(image_size=60, patch_size=20, width=64, heads=2, mlp_ratio=2.0)
    expected = dataclasses.replace(
        shape, image_size=56, patch_size=8, width=32, depth=2, mlp_ratio=4.0
    )
    assert fitted(mae[1], shape) == expected


@pytest.mark.parametrize("size", [24, 48])
@torch.no_grad()
def test_positions_follow_the_image_size_as_in_timm(mae, size):
    theirs, file = mae
    config = dataclasses.replace(CONFIG, image_size=size)
    model = build_model(config)
    load_initial(model, file)
    side = size // 8
    expected = resample_abs_pos_embed(theirs.pos_embed, [side, side])
    torch.testing.assert_close(_resized(theirs.pos_embed, side), expected, atol=1e-6, rtol=1e-6)
    theirs.set_input_size(img_size=size)
    expected = theirs.forward_features(pixels(size))
    torch.testing.assert_close(model.encode_image(pixels(size)), expected, atol=1e-5, rtol=1e-5)
    assert f"resized from 32 to {size} pixels" in " ".join(check_initial(file, config).notes)


def test_a_file_of_torch_without_the_decoder_is_checked_only_when_it_is_read(model, tmp_path):
    theirs = vit()
    decoder = {"decoder_norm.weight": torch.ones(3), "mask_token": torch.ones(1)}
    torch.save({"model": theirs.state_dict() | decoder}, tmp_path / "mae.pth")
    found = check_initial(tmp_path / "mae.pth", CONFIG)
    assert "only when they are read" in " ".join(found.notes)
    load_initial(model, tmp_path / "mae.pth")
    torch.testing.assert_close(model.image_embedding.cls, theirs.cls_token)
    with pytest.raises(ValueError, match="set --model.width 32"):
        load_initial(build_model(dataclasses.replace(CONFIG, width=64)), tmp_path / "mae.pth")
    save_file(theirs.state_dict() | decoder, tmp_path / "mae.safetensors")
    found = check_initial(tmp_path / "mae.safetensors", CONFIG)
    assert found.left_out == ("decoder_norm", "mask_token")
    assert not found.brings_words
    assert "does not say heads, activation, norm_eps" in " ".join(found.notes)


def test_every_misfit_is_named_with_its_option_and_nothing_changes(model, mae, tmp_path):
    theirs, file = mae
    before = {n: p.clone() for n, p in model.named_parameters()}
    config = dataclasses.replace(CONFIG, width=64, depth=3, patch_size=16, image_norm=True)
    with pytest.raises(ValueError, match="does not fit the model") as caught:
        check_initial(file, config)
    for words in (
        "width 32, the model 64: set --model.width 32",
        "--model.depth 2",
        "--model.patch-size 8",
        "--model.no-image-norm",
    ):
        assert words in str(caught.value)
    with pytest.raises(ValueError, match=r"128 wide, the model's 100: set --model.mlp-ratio 4.0"):
        check_initial(file, dataclasses.replace(CONFIG, mlp_ratio=3.15))
    state = theirs.state_dict()
    del state["norm.bias"]
    state["blocks.1.attn.q_norm.weight"] = torch.ones(16)
    save_file(state, tmp_path / "other.safetensors")
    for look in (
        lambda: check_initial(tmp_path / "other.safetensors", CONFIG),
        lambda: load_initial(model, tmp_path / "other.safetensors"),
    ):
        with pytest.raises(ValueError, match=r"unexpected: blocks\.1\.attn\.q_norm\.weight"):
            look()
    del state["blocks.1.attn.q_norm.weight"]
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(ValueError, match=r"missing: norm\.bias"):
        check_initial(tmp_path / "less.safetensors", CONFIG)
    state = theirs.state_dict() | {"pos_embed": torch.ones(1, 15, 32)}
    save_file(state, tmp_path / "crooked.safetensors")
    with pytest.raises(
        ValueError, match=r"positions is \[1, 15, 32\], the model needs \[1, 17, 32"
    ):
        load_initial(model, tmp_path / "crooked.safetensors")
    for more, words in (
        ({"reg_tokens": 2}, "register tokens, for which MoMo has no place"),
        ({"global_pool": "avg"}, "fc_norm"),
    ):
        save_file(vit(**more).state_dict(), tmp_path / "more.safetensors")
        with pytest.raises(ValueError, match=words):
            check_initial(tmp_path / "more.safetensors", CONFIG)
    assert unchanged(model, before)


def test_what_is_no_source_is_named(model, mae, tmp_path, monkeypatch):
    before = {n: p.clone() for n, p in model.named_parameters()}
    torn = mae[1].read_bytes()[:-9]
    (tmp_path / "torn.safetensors").write_bytes(torn)
    (tmp_path / "noise.safetensors").write_bytes(b"not weights")
    (tmp_path / "noise.pth").write_bytes(b"not weights")
    torch.save({"epoch": 3}, tmp_path / "epoch.pth")
    (tmp_path / "weights.csv").write_text("a,b")
    (tmp_path / "empty").mkdir()
    (tmp_path / "gpt").mkdir()
    (tmp_path / "gpt" / "config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "gpt" / "model.safetensors").write_bytes(mae[1].read_bytes())
    for name, error, words in (
        ("absent.pth", FileNotFoundError, r"absent\.pth: no such folder or file"),
        ("empty", FileNotFoundError, r"empty holds none of model\.safetensors"),
        ("torn.safetensors", ValueError, r"torn\.safetensors is no readable"),
        ("noise.safetensors", ValueError, r"noise\.safetensors is no readable"),
        ("noise.pth", ValueError, r"noise\.pth is no readable checkpoint"),
        ("epoch.pth", ValueError, "holds no state dict"),
        ("weights.csv", ValueError, r"weights are \.safetensors"),
        ("gpt", ValueError, "don't know how to start from a gpt2 model"),
    ):
        with pytest.raises(error, match=words):
            load_initial(model, tmp_path / name)
    assert unchanged(model, before)


def test_the_model_still_trains(model, mae):
    load_initial(model, mae[1])
    loss = MoMoTask(model, TaskConfig())("image", make_batch("image"))["mim"]
    loss.sum.backward()
    assert model.image_embedding.modality.grad.abs().max() > 0


@torch.no_grad()
def test_a_model_with_towers_takes_pictures_into_the_image_tower(mae):
    theirs, file = mae
    config = dataclasses.replace(CONFIG, tower_depth=2, depth=1)
    model = build_model(config, seed=1)
    shared = model.blocks[0].attn.qkv.weight.clone()
    load_initial(model, file)
    expected = theirs.forward_features(pixels())
    torch.testing.assert_close(model.encode_image(pixels()), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(model.blocks[0].attn.qkv.weight, shared)
    with pytest.raises(ValueError, match="set --model.tower-depth 2"):
        check_initial(file, dataclasses.replace(config, tower_depth=1))


@pytest.mark.parametrize(
    "size, name", [("base", "vit_base_patch16_224.mae"), ("large", "vit_large_patch16_224.mae")]
)
def test_base_and_large_have_the_shapes_of_the_public_encoders(size, name):
    from momo.initialise.check import expected, renamed
    from momo.initialise.layouts import timm as layout

    with torch.device("meta"):
        state = timm.create_model(name, pretrained=False).state_dict()
        targets = MoMo(SIZES[size]).state_dict()
    shapes = {n: tuple(t.shape) for n, t in state.items()}
    fields, hidden, image_size = layout._from_shapes(shapes)
    assert {n: getattr(SIZES[size], n) for n in fields} == fields
    assert (int(SIZES[size].mlp_ratio * fields["width"]), 224) == (hidden, image_size)
    names, left_out, unexpected = renamed(layout.LAYOUT, shapes)
    assert (left_out, unexpected) == ((), set())
    assert expected(layout.LAYOUT, SIZES[size]) <= names.keys() <= targets.keys()


@pytest.fixture
def exported(tmp_path):
    """An artifact with an export in it, which itself started from something."""
    tokenizer = train_wordpiece(["a red apple"] * 3, CONFIG.vocab_size)
    model = build_model(CONFIG, seed=5)
    chain = [{"name": "org/vit", "kind": "ViT", "licence": "apache-2.0"}]
    save(model, tmp_path / "run" / "model", tokenizer.to_str(), {"origin": chain})
    return model, tmp_path / "run", tokenizer


@pytest.mark.parametrize("inside", ["", "model"])
def test_an_own_export_comes_whole_with_its_words(model, exported, inside):
    theirs, folder, tokenizer = exported
    found = check_initial(folder / inside, CONFIG)
    assert fitted(folder / inside, ModelConfig()) == CONFIG
    assert found.brings_words
    assert found.vocab_size == CONFIG.vocab_size
    assert found.notes == ()
    origin = load_initial(model, folder / inside)
    for name, value in theirs.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert words_of(folder / inside) == tokenizer.to_str()
    used = Tokenizer.from_str(tokenizer.to_str())  # as transformers writes it after a call
    used.enable_truncation(4)
    used.enable_padding(length=4)
    used.save(str(folder / "model" / "tokenizer.json"))
    assert json.loads(words_of(folder / inside)) == json.loads(tokenizer.to_str())
    first, second = origin.chain()
    assert first["name"] == "org/vit"
    assert second["filled"] == ["the whole model"]
    assert json.loads(json.dumps(second)) == second
    save(model, folder / "next", None, {"origin": origin.chain()})
    assert origin_of(folder / "next") == [first, second]
    assert origin_of(folder / "absent") == []


def test_an_own_export_of_another_size(exported):
    theirs, folder, _ = exported
    config = dataclasses.replace(CONFIG, image_size=48, max_text_length=10, linear_init="normal")
    model = build_model(config)
    load_initial(model, folder)
    assert torch.equal(model.text_embedding.positions, theirs.text_embedding.positions[:, :10])
    assert torch.equal(model.contrastive.image.weight, theirs.contrastive.image.weight)
    side = resample_abs_pos_embed(theirs.pixel_decoder.positions, [6, 6])
    torch.testing.assert_close(model.pixel_decoder.positions, side, atol=1e-6, rtol=1e-6)
    wrong = dataclasses.replace(CONFIG, heads=4, vocab_size=200, max_text_length=99, embed_dim=8)
    with pytest.raises(ValueError, match="does not fit") as caught:
        check_initial(folder, wrong)
    for option in ("heads 2", "vocab-size 97", "max-text-length 24 or less", "embed-dim 16"):
        assert f"set --model.{option}" in str(caught.value)


def test_the_plan_imports_no_torch(exported, mae):
    code = (
        "import sys; from momo.config import ModelConfig;"
        "from momo.initialise import check_initial, words_of;"
        f"config = ModelConfig(**{CONFIG.to_dict()});"
        f"check_initial({str(exported[1])!r}, config); check_initial({str(mae[1])!r}, config);"
        f"words_of({str(exported[1])!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
