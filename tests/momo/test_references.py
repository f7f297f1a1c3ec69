"""Objectives and encoder against independent computations: transformers, timm, plain torch."""

import subprocess
import sys

import pytest
import torch
from making_batches import CONFIG, make_batch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    CLIPConfig,
    CLIPModel,
    ViTMAEConfig,
    ViTMAEForPreTraining,
)

from momo.block import Block
from momo.config import SIZES, TaskConfig
from momo.embeddings import normalise_pixels, patchify, take_tokens
from momo.losses import contrastive_loss, mim_loss, mlm_loss, patch_targets
from momo.masking import mask_tokens, random_patch_keep
from momo.model import MoMo, build_model, encoder_parameters
from momo.tasks import MoMoTask


def copy_layer(block, layer):
    """timm's block → a layer of `transformers`, whose query, key and value are apart."""
    attention = layer.attention
    for part in ("weight", "bias"):
        pieces = getattr(block.attn.qkv, part).chunk(3)
        for name, piece in zip(("q_proj", "k_proj", "v_proj"), pieces, strict=True):
            getattr(getattr(attention, name), part).copy_(piece)
    for source, target in (
        (block.attn.proj, attention.o_proj),
        (block.mlp.fc1, layer.mlp.fc1),
        (block.mlp.fc2, layer.mlp.fc2),
        (block.norm1, layer.layernorm_before),
        (block.norm2, layer.layernorm_after),
    ):
        target.load_state_dict(source.state_dict())


@torch.no_grad()
def reference_mae(model: MoMo, norm_pix_loss: bool) -> ViTMAEForPreTraining:
    """`transformers`' MAE with our weights; the modality embedding lies in its positions."""
    c = model.config
    config = ViTMAEConfig(
        hidden_size=c.width,
        num_hidden_layers=c.depth,
        num_attention_heads=c.heads,
        intermediate_size=int(c.width * c.mlp_ratio),
        layer_norm_eps=1e-6,
        image_size=c.image_size,
        patch_size=c.patch_size,
        decoder_num_attention_heads=c.decoder_heads,
        decoder_hidden_size=c.decoder_width,
        decoder_num_hidden_layers=c.decoder_depth,
        decoder_intermediate_size=int(c.decoder_width * c.mlp_ratio),
        norm_pix_loss=norm_pix_loss,
    )
    mae = ViTMAEForPreTraining(config).eval()
    image, embeddings = model.image_embedding, mae.vit.embeddings
    weight = image.projection.weight.unflatten(1, (c.patch_size, c.patch_size, 3))
    embeddings.patch_embeddings.projection.weight.copy_(weight.permute(0, 3, 1, 2))
    embeddings.patch_embeddings.projection.bias.copy_(image.projection.bias)
    embeddings.cls_token.copy_(image.cls)
    embeddings.position_embeddings.copy_(image.positions + image.modality)
    for block, layer in zip(model.blocks, mae.vit.layers, strict=True):
        copy_layer(block, layer)
    mae.vit.layernorm.load_state_dict(model.norm.state_dict())
    ours, theirs = model.pixel_decoder, mae.decoder
    theirs.mask_token.copy_(ours.mask_token)
    theirs.decoder_pos_embed.copy_(ours.positions)
    for block, layer in zip(ours.blocks, theirs.decoder_layers, strict=True):
        copy_layer(block, layer)
    for source, target in (
        (ours.input, theirs.decoder_embed),
        (ours.norm, theirs.decoder_norm),
        (ours.output, theirs.decoder_pred),
    ):
        target.load_state_dict(source.state_dict())
    return mae


@torch.no_grad()
def shaken(model: MoMo) -> MoMo:
    """Biases, norms and [CLS] positions away from the 0 and 1 they start with."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("normalise", [True, False])
def test_masked_image_loss_and_features_equal_those_of_transformers_mae(model, normalise):
    mae = reference_mae(shaken(model), normalise)
    batch = make_batch("image")
    pixels, noise = normalise_pixels(batch["pixels"]), batch["noise"]
    expected = mae(pixels, noise=noise)
    keep, masked = random_patch_keep(noise, 0.75)
    assert torch.equal(expected.mask.nonzero()[:, 1].view_as(masked), masked)
    tokens = model.encode_image(pixels, keep)
    prediction = model.pixel_decoder(tokens, keep)
    torch.testing.assert_close(prediction, expected.logits, atol=1e-5, rtol=1e-5)
    hidden = model.pixel_decoder(tokens, keep, masked)
    torch.testing.assert_close(hidden, take_tokens(expected.logits, masked), atol=1e-5, rtol=1e-5)
    patches = take_tokens(patchify(pixels, CONFIG.patch_size), masked)
    loss = mim_loss(hidden, patches, normalise)
    torch.testing.assert_close(loss.sum / loss.count, expected.loss, atol=1e-5, rtol=1e-5)
    # Theirs are in the order of the noise, ours ascending.
    theirs = mae.vit(pixels, noise=noise).last_hidden_state
    for row in range(len(keep)):
        sorted_back = theirs[row, 1:][order_of(noise[row], keep[row])]
        torch.testing.assert_close(tokens[row, 1:], sorted_back, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(tokens[:, 0], theirs[:, 0], atol=1e-5, rtol=1e-5)


def order_of(noise, keep):
    """Where each of `keep` [K] lies in the order of `noise` [N]."""
    return noise.argsort().argsort()[keep]


def test_targets_have_the_unbiased_variance_as_in_mae():
    """MAE's reference and `transformers` call `var`, which divides by P - 1; so do we."""
    patches = torch.randn(2, 3, 12)
    values = patches - patches.mean(-1, keepdim=True)
    unbiased = values / (values.square().sum(-1, keepdim=True) / 11 + 1e-6).sqrt()
    biased = values / (values.square().sum(-1, keepdim=True) / 12 + 1e-6).sqrt()
    torch.testing.assert_close(patch_targets(patches), unbiased)
    assert (patch_targets(patches) - biased).abs().max() > 1e-2


@pytest.mark.parametrize("modality", ["image", "text", "pair"])
def test_every_modality_reaches_every_parameter_of_the_shared_blocks(model, modality):
    task = MoMoTask(model, TaskConfig())
    losses = task(modality, make_batch(modality))
    sum(loss.sum / loss.count for loss in losses.values()).backward()
    parts = {
        "image": [model.image_embedding],
        "text": [model.text_embedding],
        "pair": [model.image_embedding, model.text_embedding],
    }[modality]
    for part in (model.blocks, model.norm, *parts):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def tiny_bert() -> BertForMaskedLM:
    torch.manual_seed(0)
    return BertForMaskedLM(
        BertConfig(
            vocab_size=CONFIG.vocab_size,
            hidden_size=CONFIG.width,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            layer_norm_eps=1e-5,
            attn_implementation="eager",
        )
    ).eval()


@torch.no_grad()
def test_masked_word_loss_and_head_equal_those_of_bert(model):
    bert, batch = tiny_bert(), make_batch("text")
    ids = batch["ids"]
    words = mask_tokens(ids, ids != 0, batch["noise"], vocab_size=CONFIG.vocab_size)
    labels = ids.masked_fill(~words.selected, -100)
    out = bert(
        words.ids, attention_mask=(ids != 0).long(), labels=labels, output_hidden_states=True
    )
    loss = mlm_loss(out.logits[words.selected], ids[words.selected])
    torch.testing.assert_close(loss.sum / loss.count, out.loss, atol=1e-5, rtol=1e-5)

    theirs, ours = bert.cls.predictions, model.word_head
    ours.transform.load_state_dict(theirs.transform.dense.state_dict())
    ours.norm.load_state_dict(theirs.transform.LayerNorm.state_dict())
    ours.bias.copy_(theirs.bias.normal_())
    model.text_embedding.words.weight.copy_(bert.bert.embeddings.word_embeddings.weight)
    logits = model.word_logits(out.hidden_states[-1])
    expected = theirs(out.hidden_states[-1])
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_contrastive_loss_equals_the_plain_computation_with_its_gradient():
    torch.manual_seed(0)
    raw = [torch.randn(6, 8, requires_grad=True) for _ in range(2)]
    scale = torch.tensor(1.7, requires_grad=True)
    image, text = (nn.functional.normalize(x, dim=-1) for x in raw)
    logits = scale.exp() * image @ text.T
    pairs = logits.diagonal()
    plain = 0.5 * ((logits.logsumexp(1) - pairs).mean() + (logits.logsumexp(0) - pairs).mean())
    wanted = torch.autograd.grad(plain, [*raw, scale], retain_graph=True)
    loss = contrastive_loss(image, text, scale)
    torch.testing.assert_close(loss.sum / loss.count, plain)
    found = torch.autograd.grad(loss.sum / loss.count, [*raw, scale])
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


@torch.no_grad()
def test_contrastive_loss_equals_that_of_clip():
    torch.manual_seed(0)
    body = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    text = {**body, "vocab_size": 97, "max_position_embeddings": 16, "eos_token_id": 3}
    vision = {**body, "image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    clip, batch = CLIPModel(config).eval(), make_batch("pair")
    out = clip(
        input_ids=batch["ids"],
        pixel_values=normalise_pixels(batch["pixels"]),
        attention_mask=(batch["ids"] != 0).long(),
        return_loss=True,
    )
    loss = contrastive_loss(out.image_embeds, out.text_embeds, clip.logit_scale)
    torch.testing.assert_close(loss.sum / loss.count, out.loss, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("patches", [16, 49, 196, 256])
@pytest.mark.parametrize("ratio", [0.5, 0.75, 0.9])
def test_exactly_the_wanted_number_of_patches_stays(patches, ratio):
    noise = torch.rand(64, patches, generator=torch.Generator().manual_seed(0))
    keep, masked = random_patch_keep(noise, ratio)
    kept = round(patches * (1 - ratio))
    assert keep.shape == (64, kept)
    assert torch.equal(
        torch.cat([keep, masked], dim=1).sort(dim=1).values, torch.arange(patches).expand(64, -1)
    )


def test_every_patch_stays_equally_often():
    noise = torch.rand(20_000, 16, generator=torch.Generator().manual_seed(0))
    share = random_patch_keep(noise, 0.75)[0].flatten().bincount(minlength=16) / 20_000
    deviation = (0.25 * 0.75 / 20_000) ** 0.5
    assert ((share - 0.25).abs() < 4.5 * deviation).all()


def test_words_are_masked_80_10_10_and_evenly():
    g = torch.Generator().manual_seed(0)
    rows, length, vocabulary = 4000, 42, 1000
    ids = torch.randint(5, vocabulary, (rows, length), generator=g)
    ids[:, 0], ids[:, -1] = 2, 3
    noise = torch.rand(rows, length, 3, generator=g)
    result = mask_tokens(ids, ids != 0, noise, vocab_size=vocabulary)
    assert (result.selected.sum(dim=1) == 6).all()  # 15 % of 40 words
    new, old = result.ids[result.selected], ids[result.selected]
    count = rows * 6
    drawn = (new != 4) & (new != old)
    for share, wanted in ((new == 4, 0.8), (drawn, 0.1), (new == old, 0.1)):
        deviation = (wanted * (1 - wanted) / count) ** 0.5
        assert abs(share.float().mean().item() - wanted) < 4.5 * deviation
    histogram = torch.bincount((new[drawn] - 5) * 10 // (vocabulary - 5), minlength=10)
    expected = drawn.sum() / 10
    assert ((histogram - expected).abs() < 4.5 * expected.sqrt()).all()
    places = result.selected[:, 1:-1].float().mean(dim=0)
    assert ((places - 0.15).abs() < 4.5 * (0.15 * 0.85 / rows) ** 0.5).all()


@pytest.mark.parametrize(
    "size, encoder, decoder, heads", [("base", 109.6, 25.9, 2.0), ("large", 335.1, 26.0, 3.7)]
)
def test_parameter_counts_with_decoder_and_heads_apart(size, encoder, decoder, heads):
    with torch.device("meta"):
        model = MoMo(SIZES[size])
    apart = (model.word_head, model.contrastive, model.matching)
    counts = {
        "decoder": sum(p.numel() for p in model.pixel_decoder.parameters()),
        "heads": sum(p.numel() for part in apart for p in part.parameters()),
    }
    assert encoder_parameters(model) == pytest.approx(encoder * 1e6, rel=0.01)
    assert counts["decoder"] == pytest.approx(decoder * 1e6, rel=0.02), counts
    assert counts["heads"] == pytest.approx(heads * 1e6, rel=0.05), counts
    everything = sum(p.numel() for p in model.parameters())
    assert everything == encoder_parameters(model) + sum(counts.values())


@pytest.mark.parametrize("masked", [False, True])
def test_a_block_gives_the_bits_of_timm(masked):
    from timm.models.vision_transformer import Block as Theirs

    ours, theirs = Block(64, 4, 4.0), Theirs(64, 4, 4.0, qkv_bias=True)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 7, 64, requires_grad=True)
    mask = (torch.arange(7) < torch.tensor([[7], [4], [1]]))[:, None, None] if masked else None
    outputs = ours(x, mask), theirs(x, attn_mask=mask)
    assert torch.equal(*outputs)
    gradients = [torch.autograd.grad(o.square().sum(), x)[0] for o in outputs]
    assert torch.equal(*gradients)


def test_a_worker_imports_neither_timm_nor_torchvision():
    code = "import sys, pipelines.build; assert not {'timm', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_blocks_are_those_of_timm_in_the_layout_of_its_vision_transformer():
    from timm.models.vision_transformer import VisionTransformer

    ours = build_model(CONFIG)
    theirs = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=0
    )
    assert set(ours.blocks.state_dict()) == set(theirs.blocks.state_dict())
    assert ours.norm.eps == theirs.norm.eps == ours.blocks[0].norm1.eps
