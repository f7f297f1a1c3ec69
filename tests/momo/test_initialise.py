"""A MAE encoder in timm's layout becomes the image half of the model."""

import dataclasses

import pytest
import timm
import torch
from making_batches import CONFIG, make_batch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

from momo.config import SIZES, TaskConfig
from momo.initialise import load_mae
from momo.model import MoMo, build_model
from momo.tasks import MoMoTask


@pytest.fixture
def mae():
    """The layout of `vit_base_patch16_224.mae`, tiny, with random weights."""
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=0
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def pixels(size):
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_image_features_equal_those_of_timm_and_the_rest_stays(model, mae):
    before = {n: p.clone() for n, p in model.named_parameters()}
    assert load_mae(model, mae.state_dict()) == ()
    tokens = model.encode_image(pixels(32))
    torch.testing.assert_close(tokens, mae.forward_features(pixels(32)), atol=1e-5, rtol=1e-5)
    for name, parameter in model.named_parameters():
        encoder = name.startswith(("blocks.", "norm.", "image_embedding."))
        assert torch.equal(parameter, before[name]) != encoder, name


@pytest.mark.parametrize("size", [24, 48])
@torch.no_grad()
def test_positions_follow_the_image_size_as_in_timm(mae, size):
    model = build_model(dataclasses.replace(CONFIG, image_size=size))
    load_mae(model, mae.state_dict())
    mae.set_input_size(img_size=size)
    expected = mae.forward_features(pixels(size))
    torch.testing.assert_close(model.encode_image(pixels(size)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["mae.safetensors", "mae.pth"])
def test_files_of_both_kinds_without_the_decoder(model, mae, tmp_path, name):
    state = {**mae.state_dict(), "decoder_norm.weight": torch.ones(3), "mask_token": torch.ones(1)}
    if name.endswith(".pth"):
        torch.save({"model": state}, tmp_path / name)
    else:
        save_file(state, tmp_path / name)
    assert load_mae(model, tmp_path / name) == ("decoder_norm.weight", "mask_token")
    torch.testing.assert_close(model.image_embedding.cls, mae.cls_token)


def test_what_does_not_fit_is_named_and_changes_nothing(model, mae, tmp_path):
    before = {n: p.clone() for n, p in model.named_parameters()}
    state = mae.state_dict()
    del state["norm.bias"]
    state["blocks.2.norm1.weight"] = torch.ones(32)
    state["pos_embed"] = state["pos_embed"][:, 1:]
    state["patch_embed.proj.weight"] = torch.ones(32, 3, 16, 16)
    with pytest.raises(ValueError, match="does not fit the model") as caught:
        load_mae(model, state)
    for words in (
        "missing: norm.bias",
        "unexpected: blocks.2.norm1.weight",
        "pos_embed is [1, 16, 32], the model needs [1, 17, 32]",
        "patch_embed.proj.weight is [32, 3, 16, 16], the model needs [32, 3, 8, 8]",
    ):
        assert words in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        load_mae(model, tmp_path / "absent.pth")
    (tmp_path / "torn.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match=r"torn\.safetensors is no readable checkpoint"):
        load_mae(model, tmp_path / "torn.safetensors")
    with pytest.raises(ValueError, match="no state dict"):
        load_mae(model, {"epoch": 3})  # type: ignore[dict-item]
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name


def test_the_model_still_trains(model, mae):
    load_mae(model, mae.state_dict())
    loss = MoMoTask(model, TaskConfig())("image", make_batch("image"))["mim"]
    loss.sum.backward()
    assert model.image_embedding.modality.grad.abs().max() > 0


@pytest.mark.parametrize(
    "size, name", [("base", "vit_base_patch16_224.mae"), ("large", "vit_large_patch16_224.mae")]
)
def test_base_and_large_have_the_shapes_of_the_public_encoders(size, name):
    with torch.device("meta"):
        state = timm.create_model(name, pretrained=False).state_dict()
        assert load_mae(MoMo(SIZES[size]), state) == ()
