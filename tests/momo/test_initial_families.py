"""Starting from `transformers` models: what MoMo then computes equals what they compute.

The models are made from their config classes, tiny, with random weights, and saved as people do.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from making_batches import CONFIG

from momo.embeddings import normalise_pixels
from momo.export import save
from momo.initialise import check_initial, fitted, load_initial, words_of
from momo.initialise.layouts import bert, clip, dinov2, siglip, vit
from momo.initialise.source import find_source
from momo.model import build_model
from momo.tokenizer import check_special_tokens, encode_texts, load_tokenizer

SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {**SHAPE, "vocab_size": 99, "projection_dim": 16}
CLIP_SHAPE = {"norm_eps": 1e-5, "activation": "quick_gelu", "image_norm": True}
SIGLIP_SHAPE = {"activation": "gelu_tanh", "class_attention": True}


def vit_config():
    return hf.ViTConfig(**SHAPE)


def dinov2_config():
    return hf.Dinov2Config(**SHAPE, mlp_ratio=2)


def two_towers(config_class):
    return config_class(vision_config=dict(SHAPE), text_config=dict(TEXT), projection_dim=16)


MODELS = {  # class, config, fields of ModelConfig, where its picture encoder is
    "ViT": (hf.ViTModel, vit_config, {"norm_eps": 1e-12}, ""),
    "ViT with a classifier": (
        *(hf.ViTForImageClassification, vit_config, {"norm_eps": 1e-12}),
        "vit",
    ),
    "ViT without biases": (
        hf.ViTModel,
        lambda: hf.ViTConfig(**SHAPE, qkv_bias=False),
        {"norm_eps": 1e-12},
        "",
    ),
    "MAE": (
        hf.ViTMAEForPreTraining,
        lambda: hf.ViTMAEConfig(
            **SHAPE,
            mask_ratio=0.0,
            decoder_hidden_size=32,
            decoder_num_attention_heads=2,
            decoder_num_hidden_layers=1,
            decoder_intermediate_size=32,
        ),
        {"norm_eps": 1e-12},
        "vit",
    ),
    "DINOv2": (hf.Dinov2Model, dinov2_config, {}, ""),
    "DINOv2 with a classifier": (hf.Dinov2ForImageClassification, dinov2_config, {}, "dinov2"),
    "CLIP": (hf.CLIPModel, lambda: two_towers(hf.CLIPConfig), CLIP_SHAPE, "vision_model"),
    "CLIP's image half": (
        hf.CLIPVisionModel,
        lambda: hf.CLIPVisionConfig(**SHAPE),
        CLIP_SHAPE,
        "",
    ),
    "SigLIP": (hf.SiglipModel, lambda: two_towers(hf.SiglipConfig), SIGLIP_SHAPE, "vision_model"),
    "SigLIP's image half": (
        hf.SiglipVisionModel,
        lambda: hf.SiglipVisionConfig(**SHAPE),
        SIGLIP_SHAPE,
        "",
    ),
}
CLIP_STATISTICS = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def random_weights(model):
    """Nothing at a value that an initialisation would give, LayerScale among them."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def picture_tokens(encoder, values):
    """Behind the last norm, in the order of the patches."""
    extra = {}
    if encoder.config.model_type == "vit_mae":
        extra["noise"] = torch.arange(16.0).expand(len(values), -1)
    tokens = encoder(pixel_values=values, **extra).last_hidden_state
    if encoder.config.model_type == "clip_vision_model":
        body = getattr(encoder, "vision_model", encoder)
        return body.post_layernorm(tokens)
    return tokens


def saved(name, folder, statistics):
    kind, config, shape, place = MODELS[name]
    model = random_weights(kind(config()))
    model.save_pretrained(folder)
    if statistics is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(statistics))
    encoder = getattr(model, place) if place else model
    return encoder, dataclasses.replace(CONFIG, mlp_ratio=2.0, **shape)


def pixels():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, 3, 32, 32), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("statistics", [IMAGENET, CLIP_STATISTICS, None], ids=["same", "own", ""])
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_features_of_pictures_equal_theirs(name, statistics, tmp_path):
    encoder, config = saved(name, tmp_path, statistics)
    found = check_initial(tmp_path, config)
    assert fitted(tmp_path, CONFIG) == config
    model = build_model(config, seed=1)
    assert load_initial(model, tmp_path) == found.origin
    taken = statistics
    if taken is None:
        assert "no file says how its pictures were normalised" in " ".join(found.notes)
        half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        family = next(f for f in ("CLIP", "ViT", "SigLIP", "MAE", "DINOv2") if name.startswith(f))
        taken = {"CLIP": CLIP_STATISTICS, "ViT": half, "SigLIP": half}.get(family, IMAGENET)
    mean, std = (torch.tensor(taken[f"image_{k}"])[:, None, None] for k in ("mean", "std"))
    expected = picture_tokens(encoder, (pixels() / 255 - mean) / std)
    tokens = model.encode_image(normalise_pixels(pixels()))
    if config.class_attention:
        assert any("no [CLS]" in note for note in found.notes)
        tokens = tokens[:, 1:]
    torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-5)
    if name == "CLIP":
        assert found.left_out == (
            "logit_scale",
            "text_model",
            "text_projection",
            "visual_projection",
        )


@pytest.mark.parametrize(
    "layout, config_class",
    [
        (vit, hf.ViTConfig),
        (vit, hf.ViTMAEConfig),
        (dinov2, hf.Dinov2Config),
        (clip, hf.CLIPVisionConfig),
        (siglip, hf.SiglipVisionConfig),
        (bert, hf.BertConfig),
    ],
)
def test_what_configs_leave_out_is_their_class_default(layout, config_class):
    config = config_class()
    for name, value in layout.DEFAULTS.items():
        assert getattr(config, name, value) == value, name


def test_misfits_of_each_family_name_the_option(tmp_path):
    _, right = saved("CLIP", tmp_path, None)
    with pytest.raises(ValueError, match="CLIP's image half. does not fit the model") as caught:
        check_initial(tmp_path, dataclasses.replace(CONFIG, heads=4))
    for option in (
        *("heads 2", "activation quick_gelu", "norm-eps 1e-05", "image-norm"),
        "mlp-ratio 2.0",
    ):
        assert f"set --model.{option}" in str(caught.value)
    larger = check_initial(tmp_path, dataclasses.replace(right, image_size=64))
    assert "resized from 32 to 64" in " ".join(larger.notes)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, words in (
        ({"hidden_act": "relu"}, "'relu' is none of"),
        ({"image_size": [32, 64]}, "square pictures"),
        ({"num_channels": 4}, "4 channels"),
    ):
        changed = config | {"vision_config": config["vision_config"] | change}
        (tmp_path / "config.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=words):
            check_initial(tmp_path, right)


WORDS = [
    "[PAD]",
    *(f"[unused{i}]" for i in range(6)),
    *("[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *["a", "red", "apple", "tree", "green", "##s", "##ish", "in", "the", "house", ",", ".", "红"],
]
TEXTS = [
    "A red apple, in the TREE.",
    "apples",
    "the greenish house unknowable 红",
    "[MASK] tree",
    "",
]
BERT = {"text_norm": True, "vocab_size": len(WORDS) + 2, "max_text_length": 12}


@pytest.fixture(params=["tokenizer.json", "vocab.txt", "old names"])
def bert_folder(request, tmp_path):
    """BERT with its tokenizer in the form of today, and in that of old checkpoints."""
    config = hf.BertConfig(
        **{n: SHAPE[n] for n in SHAPE if "size" not in n or n == "hidden_size"},
        intermediate_size=64,
        vocab_size=len(WORDS) + 2,  # rows beyond the vocabulary, as some have them
        max_position_embeddings=20,
    )
    model = random_weights(hf.BertForMaskedLM(config))
    model.save_pretrained(tmp_path)
    tokenizer = hf.BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)})
    tokenizer.save_pretrained(tmp_path)
    if request.param == "vocab.txt":
        (tmp_path / "tokenizer.json").unlink()
        (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    if request.param == "old names":
        from safetensors.torch import load_file, save_file

        file = tmp_path / "model.safetensors"
        state = {
            n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta"): t
            for n, t in load_file(file).items()
        }
        save_file(state, file)
    return model, tokenizer, tmp_path


@torch.no_grad()
def test_bert_gives_its_words_with_its_tokenizer(bert_folder):
    theirs, their_tokenizer, folder = bert_folder
    config = dataclasses.replace(CONFIG, **BERT)
    found = check_initial(folder, config)
    assert fitted(folder, dataclasses.replace(CONFIG, max_text_length=12)) == config
    assert fitted(folder, CONFIG).max_text_length == 20
    assert found.vocab_size == len(WORDS) + 2
    assert "cls" in found.left_out
    assert any("blocks norm after each residual" in note for note in found.notes)
    model = build_model(config, seed=1)
    blocks = model.blocks[0].attn.qkv.weight.clone()
    load_initial(model, folder)
    (folder / "ours.json").write_text(words_of(folder), encoding="utf-8")
    tokenizer = check_special_tokens(load_tokenizer(folder / "ours.json"), "BERT's")

    for text in TEXTS:
        ours, expected = tokenizer.encode(text), their_tokenizer(text)
        theirs_tokens = their_tokenizer.convert_ids_to_tokens(expected["input_ids"])
        assert ours.tokens == theirs_tokens
        pair = tokenizer.encode(text, TEXTS[0])
        expected = their_tokenizer(text, TEXTS[0])
        assert pair.tokens == their_tokenizer.convert_ids_to_tokens(expected["input_ids"])
        assert pair.type_ids == expected["token_type_ids"]

    ids = torch.from_numpy(encode_texts(tokenizer, TEXTS, 12))
    their_ids = their_tokenizer(
        TEXTS, padding="max_length", max_length=12, truncation=True, return_tensors="pt"
    )["input_ids"]
    order = their_tokenizer.convert_tokens_to_ids(
        [tokenizer.id_to_token(i) for i in range(len(WORDS))]
    )
    assert torch.equal(torch.tensor(order)[ids], their_ids)
    expected = theirs.bert.embeddings(input_ids=their_ids)
    torch.testing.assert_close(model.text_embedding(ids), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(model.blocks[0].attn.qkv.weight, blocks)


def test_misfits_of_bert(bert_folder, tmp_path):
    _, _, folder = bert_folder
    wrong = dataclasses.replace(CONFIG, width=64, max_text_length=24)
    with pytest.raises(ValueError, match="BERT's words. does not fit") as caught:
        check_initial(folder, wrong)
    for option in ("width 32", f"vocab-size {len(WORDS) + 2}", "text-norm", "max-text-length 20"):
        assert f"set --model.{option}" in str(caught.value)
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(ValueError, match="neither tokenizer.json nor vocab.txt"):
        check_initial(folder, dataclasses.replace(CONFIG, **BERT))
    (folder / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(ValueError, match=r"has no \[PAD\], \[UNK\]"):
        words_of(folder)


def test_pictures_bring_no_words(tmp_path):
    saved("ViT", tmp_path, None)
    with pytest.raises(ValueError, match="brings no words"):
        words_of(tmp_path)


def test_licence_and_name_are_known(tmp_path, monkeypatch):
    _, config = saved("DINOv2", tmp_path / "dino", IMAGENET)
    card = tmp_path / "dino" / "README.md"
    assert check_initial(tmp_path / "dino", config).origin.licence == "not stated"
    for text, licence in (
        ("---\nlicense: apache-2.0\ntags: [a]\n---\n# DINO", "apache-2.0"),
        ("---\nlicense:\n- mit\n- cc-by-4.0\n---\n", "mit, cc-by-4.0"),
        ("---\nlicense: other\nlicense_name: own-licence\n---\n", "own-licence"),
        ("# no front matter\nlicense: mit\n", "not stated"),
        ("---\n: : :\n---\n", "not stated"),
    ):
        card.write_text(text)
        found = check_initial(tmp_path / "dino", config)
        assert found.origin.licence == licence
    card.write_text("---\nlicense: apache-2.0\n---\n")
    summary = check_initial(tmp_path / "dino", config).summary()
    assert "DINOv2, licence apache-2.0, sha256 " in summary
    assert "gives the image embedding, the blocks, the last norm" in summary


def hub_cache(home: Path, name: str, revision: str = "main") -> Path:
    """A model's folder where the hub's client keeps what it has downloaded."""
    place = home / "hub" / f"models--{name.replace('/', '--')}"
    commit = "0123456789012345678901234567890123456789"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / revision).write_text(commit)
    folder = place / "snapshots" / commit
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", ["org/vit-tiny", "hf://org/vit-tiny@main"])
@torch.no_grad()
def test_a_name_on_the_hub_is_taken_from_its_cache_offline(name, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    encoder, config = saved("ViT", hub_cache(tmp_path, "org/vit-tiny"), IMAGENET)
    monkeypatch.chdir(tmp_path)
    model = build_model(config)
    assert load_initial(model, name).name == f"hf://{name.removeprefix('hf://')}"
    values = normalise_pixels(pixels())
    expected = picture_tokens(encoder, values)
    torch.testing.assert_close(model.encode_image(values), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(FileNotFoundError, match="org/other: no folder or file here, and the hub"):
        find_source("org/other")


@torch.no_grad()
def test_weights_in_several_files_and_in_half_precision(tmp_path):
    encoder, config = saved("ViT", tmp_path / "one", IMAGENET)
    encoder.half().save_pretrained(tmp_path / "several", max_shard_size="20KB")
    (tmp_path / "several" / "preprocessor_config.json").write_text(json.dumps(IMAGENET))
    assert len(find_source(tmp_path / "several").files) > 2
    check_initial(tmp_path / "several", config)
    model = build_model(config)
    load_initial(model, tmp_path / "several")
    expected = encoder.float()(pixel_values=normalise_pixels(pixels())).last_hidden_state
    values = model.encode_image(normalise_pixels(pixels()))
    torch.testing.assert_close(values, expected, atol=1e-4, rtol=1e-4)
    last = find_source(tmp_path / "several").files[-1]
    last.unlink()
    with pytest.raises(FileNotFoundError, match=f"{last.name} is missing"):
        find_source(tmp_path / "several")


@torch.no_grad()
def test_a_model_with_these_options_is_exported_and_comes_back(tmp_path):
    import momo
    from momo.hf import MoMoModel, from_exported
    from momo.tokenizer import train_wordpiece

    shape = {**CLIP_SHAPE, "class_attention": True, "text_norm": True}
    model = build_model(dataclasses.replace(CONFIG, **shape), seed=1)
    tokenizer = train_wordpiece(["a red apple"] * 3, CONFIG.vocab_size)
    save(model, tmp_path / "own", tokenizer.to_str())
    embedder = momo.load(tmp_path / "own", "cpu")
    assert embedder.model.config == model.config
    picture = np.moveaxis(pixels().numpy()[0], 0, -1)
    by_ours = embedder.embed(images=[picture])
    assert embedder.attention(pixels().numpy()[0], "apple").sum() == pytest.approx(1, abs=1e-5)
    converted, processor = from_exported(tmp_path / "own")
    converted.save_pretrained(tmp_path / "hf")
    again = MoMoModel.from_pretrained(tmp_path / "hf")
    inputs = processor(images=[picture], return_tensors="pt")
    np.testing.assert_allclose(again.get_image_features(**inputs).numpy(), by_ours, atol=1e-5)
    start = build_model(model.config)
    load_initial(start, tmp_path / "hf")
    for name, value in model.state_dict().items():
        assert torch.equal(start.state_dict()[name], value), name
