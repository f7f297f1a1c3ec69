"""The exported model as `transformers` has it."""

import base64
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from making_batches import CONFIG
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, AutoTokenizer

import momo
from momo.config import ModelConfig
from momo.evaluation.load import load_encoder
from momo.export import save
from momo.hf import MoMoConfig, MoMoModel, MoMoProcessor, from_exported, render_card
from momo.model import build_model
from momo.tokenizer import load_tokenizer, train_wordpiece

TEXTS = ["a red apple", "tree", "a green tree and a red apple " * 9, "", "apple [PAD] [SEP] red"]
ROOT = Path(__file__).resolve().parents[2]


def picture(width, height, seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 4), dtype=np.uint8)
    return Image.fromarray(pixels)  # RGBA


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "model"
    tokenizer = train_wordpiece(["a red apple", "a green tree"] * 5, CONFIG.vocab_size)
    model = build_model(CONFIG, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():  # nothing at a value that a reset would give
            parameter.add_(0.02 * torch.randn_like(parameter))
    save(model, folder, tokenizer.to_str(), {"text_length": 12})
    return folder


@pytest.fixture(scope="module")
def pictures(exported):
    """Transparent, grey, in a palette, turned by EXIF, wide and high; the last as a file."""
    transparent, wide = picture(50, 40, 1), picture(90, 30, 2)
    turned = picture(30, 60, 3).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(exported / "turned.jpg", exif=exif)
    transparent.save(exported / "transparent.png")
    palette = picture(40, 41, 5).convert("RGB").convert("P")
    files = [str(exported / "turned.jpg"), exported / "transparent.png"]
    return [transparent, wide.convert("L"), palette, wide.convert("RGB"), *files]


@pytest.fixture(scope="module")
def converted(exported, tmp_path_factory):
    """Model and processor after `save_pretrained` and the auto classes' `from_pretrained`."""
    folder = tmp_path_factory.mktemp("hf")
    for part in from_exported(exported):
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(converted):
    model = AutoModel.from_pretrained(converted)
    return model, AutoProcessor.from_pretrained(converted)


def test_weights_come_back_bit_for_bit_as_safetensors(exported, converted, loaded):
    model, processor = loaded
    assert isinstance(model, MoMoModel)
    assert isinstance(processor, MoMoProcessor)
    assert not model.training
    names = {p.name for p in converted.iterdir()}
    assert "model.safetensors" in names
    assert not [n for n in names if n.endswith((".bin", ".pt", ".pth", ".pkl"))]
    expected = momo.load(exported, "cpu").model.state_dict()
    assert set(model.network.state_dict()) == set(expected)
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert AutoConfig.from_pretrained(converted).to_model_config() == CONFIG
    assert AutoConfig.from_pretrained(converted).hidden_size == CONFIG.width


@torch.inference_mode()
def test_texts_equal_those_of_momo_load_with_any_padding(exported, loaded):
    model, processor = loaded
    expected = momo.load(exported, "cpu").embed(texts=TEXTS)
    inputs = processor(text=TEXTS, return_tensors="pt")
    assert set(inputs) == {"input_ids", "attention_mask"}
    assert inputs["input_ids"].shape == (5, 12)  # cut to the length of training
    found = model.get_text_features(**inputs)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    short = [0, 1, 3, 4]
    longer = processor(text=[TEXTS[i] for i in short], return_tensors="pt", padding="max_length")
    assert longer["input_ids"].shape == (4, 12)
    found = model.get_text_features(longer["input_ids"])  # no mask: padding is known by its id
    np.testing.assert_allclose(found.numpy(), expected[short], atol=1e-5)
    one = processor(text="tree", return_tensors="pt")
    found = model.get_text_features(**one)
    np.testing.assert_allclose(found.numpy(), expected[1:2], atol=1e-5)


def test_what_is_saved_after_use_and_evaluated_neither_cuts_nor_fills(exported, loaded, tmp_path):
    loaded[1](text=TEXTS, return_tensors="pt", padding="max_length")
    for part in loaded:
        part.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text())["truncation"] is not None
    whole, found = load_tokenizer(exported / "tokenizer.json"), load_encoder(tmp_path).tokenizer
    for text in TEXTS:
        assert found.encode(text).ids == whole.encode(text).ids


@torch.inference_mode()
def test_pictures_equal_those_of_momo_load(exported, loaded, pictures):
    model, processor = loaded
    inputs = processor(images=pictures, return_tensors="pt")
    found = model.get_image_features(**inputs)
    expected = momo.load(exported, "cpu").embed(images=pictures)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-5)
    array = np.asarray(pictures[3])
    file = io.BytesIO()
    pictures[3].save(file, "png")
    uri = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    turned = array.transpose(2, 0, 1)
    for same in (array, turned, torch.from_numpy(array.copy()), [pictures[3]], uri):
        pixels = processor(images=same, return_tensors="pt")["pixel_values"]
        assert torch.equal(pixels, inputs["pixel_values"][3:4])


@torch.inference_mode()
def test_forward_gives_logits_and_for_pairs_the_joint_pass(exported, loaded, pictures):
    model, processor = loaded
    embedder = momo.load(exported, "cpu")
    pairs = processor(text=TEXTS[:3], images=pictures[:3], return_tensors="pt")
    out = model(**pairs)
    scale = embedder.model.contrastive.clamped_log_scale().exp().item()
    cosines = embedder.similarity(TEXTS[:3], pictures[:3]).T
    np.testing.assert_allclose(out.logits_per_image.numpy(), scale * cosines, atol=1e-3)
    assert torch.equal(out.logits_per_text, out.logits_per_image.T)
    assert out.image_hidden_states.shape == (3, 1 + CONFIG.num_patches, CONFIG.width)
    assert out.text_hidden_states.shape == (3, 12, CONFIG.width)
    ids = pairs["input_ids"]
    image, text = embedder.model.encode_pair(pairs["pixel_values"], ids, ids != 0)
    torch.testing.assert_close(out.image_hidden_states, image, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out.text_hidden_states, text, atol=1e-5, rtol=1e-5)
    logits = embedder.model.matching(image[:, 0])
    torch.testing.assert_close(out.matching_logits, logits, atol=1e-5, rtol=1e-5)
    assert isinstance(model(**pairs, return_dict=False), tuple)

    short = processor(text=TEXTS[1], images=pictures[0], return_tensors="pt")
    padded = processor(text=TEXTS[1], images=pictures[0], return_tensors="pt", padding="max_length")
    a, b = model(**short), model(**padded)
    torch.testing.assert_close(a.matching_logits, b.matching_logits, atol=1e-5, rtol=1e-5)

    many = processor(text=TEXTS, images=pictures[:2], return_tensors="pt")
    out = model(**many)
    assert out.logits_per_image.shape == (2, 5)
    assert out.matching_logits is None
    assert model(**pairs, joint=False).matching_logits is None
    assert set(model(**processor(text=TEXTS, return_tensors="pt"))) == {"text_embeds"}
    with pytest.raises(ValueError, match="joint=True"):
        model(**many, joint=True)
    with pytest.raises(ValueError, match="input_ids, pixel_values"):
        model()


def test_parts_load_alone_and_in_a_new_process(converted):
    tokenizer = AutoTokenizer.from_pretrained(converted)
    assert tokenizer("a red apple")["input_ids"][0] == 2
    assert tokenizer.decode(tokenizer("a red apple")["input_ids"], skip_special_tokens=True) == (
        "a red apple"
    )
    assert AutoImageProcessor.from_pretrained(converted).size == {"height": 32, "width": 32}
    code = (
        "import sys, momo.hf; from transformers import AutoModel, AutoProcessor;"
        f"m = AutoModel.from_pretrained({str(converted)!r});"
        f"p = AutoProcessor.from_pretrained({str(converted)!r});"
        "print(m.get_text_features(**p(text='tree', return_tensors='pt')).shape);"
        "assert not {'ray', 'momo_platform'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert f"[1, {CONFIG.embed_dim}]" in done.stdout


def test_a_new_model_starts_as_momo_does_and_missing_weights_are_initialised(converted, tmp_path):
    config = MoMoConfig.from_model_config(CONFIG)
    network = MoMoModel(config).network
    assert network.contrastive.log_scale.item() == pytest.approx(np.log(1 / 0.07))
    assert torch.equal(network.norm.weight, torch.ones(CONFIG.width))
    positions = build_model(CONFIG).image_embedding.positions
    torch.testing.assert_close(network.image_embedding.positions, positions)
    from safetensors.torch import load_file, save_file

    state = load_file(converted / "model.safetensors")
    del state["network.matching.output.weight"], state["network.pixel_decoder.positions"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text((converted / "config.json").read_text())
    partial = MoMoModel.from_pretrained(tmp_path).network
    assert partial.matching.output.weight.abs().max() > 0
    torch.testing.assert_close(
        partial.pixel_decoder.positions, build_model(CONFIG).pixel_decoder.positions
    )
    for name, tensor in state.items():
        assert torch.equal(partial.state_dict()[name.removeprefix("network.")], tensor), name


@torch.inference_mode()
def test_half_precision_runs_and_stays_near(converted, loaded, pictures):
    model, processor = loaded
    half = AutoModel.from_pretrained(converted, dtype=torch.bfloat16)
    pairs = processor(text=TEXTS[:3], images=pictures[:3], return_tensors="pt")
    a, b = half(**pairs), model(**pairs)
    assert a.image_hidden_states.dtype == torch.bfloat16
    assert a.image_embeds.dtype == torch.float32
    assert (a.image_embeds * b.image_embeds).sum(dim=1).min() > 0.99
    assert (a.text_embeds * b.text_embeds).sum(dim=1).min() > 0.99


def test_configuration_has_the_defaults_and_the_checks_of_the_model(tmp_path):
    assert MoMoConfig().to_model_config() == ModelConfig()
    with pytest.raises(ValueError, match=r"multiple of model\.heads"):
        MoMoConfig(width=30, heads=4)
    with pytest.raises(FileNotFoundError, match="no exported model"):
        from_exported(tmp_path)


def test_mistakes_with_pictures_are_named(loaded, tmp_path):
    _, processor = loaded
    for images, error, words in (
        (tmp_path / "absent.png", FileNotFoundError, "absent.png"),
        (np.zeros((8, 8, 3), np.float32), TypeError, "give uint8"),
        (np.zeros((8, 8, 7), np.uint8), ValueError, "channels"),
        ([3], TypeError, "int is no picture"),
        ("https://example.org/a.png", ValueError, "not fetched"),
        ("data:image/png;base64,AAAA", ValueError, "no picture as base64"),
        ("data:image/png;base64,*", ValueError, "no picture as base64"),
    ):
        with pytest.raises(error, match=words):
            processor(images=images, return_tensors="pt")
    with pytest.raises(TypeError, match="do_resize"):
        processor(images=Image.new("RGB", (9, 9)), do_resize=False)


def test_card_tells_recipe_corpora_licence_and_measurements():
    card = render_card(
        "apples",
        recipe={"steps": 350, "rate": 0.002},
        corpora=[{"name": "emoji", "licence": "CC-BY 4.0", "rows": 8076}, {"name": "own"}],
        licence="apache-2.0",
        tasks={"mnist": {"metric": "probe | accuracy", "value": 0.9366, "n": 60, "baseline": None}},
    )
    for words in (
        "---\nlicense: apache-2.0\nlibrary_name: transformers",
        "| steps | 350 |",
        "| emoji | CC-BY 4.0 | 8076 |",
        "| own | – | – |",
        "| mnist | probe \\| accuracy | 0.937 | 60 | – |",
        'AutoModel.from_pretrained("apples", trust_remote_code=True)',
        'SentenceTransformer("apples", trust_remote_code=True)',
    ):
        assert words in card
    empty = render_card("bare", recipe={})
    assert "Started from" not in empty
    assert "license: other" in empty
    assert "Nothing was measured" in empty


def test_card_and_config_tell_what_the_training_started_from(exported, tmp_path):
    origin = [
        {"name": "hf://org/vit@main", "kind": "ViT", "licence": "mit", "filled": ["the blocks"]},
        {"name": "/home/me/run/model", "kind": "MoMo", "licence": "not stated", "sha256": "ab12"},
    ]
    card = render_card("more", recipe={}, origin=origin)
    for words in (
        "\nbase_model: org/vit\n",
        "| hf://org/vit@main | ViT | mit | the blocks | – |",
        "| model | MoMo | not stated | – | ab12 |",
        "The licences of the corpora and of the weights that it started from may bind it",
    ):
        assert words in card
    assert "/home/me" not in card
    tokenizer = (exported / "tokenizer.json").read_text()
    save(momo.load(exported, "cpu").model, tmp_path / "own", tokenizer, {"origin": origin})
    converted, _ = from_exported(tmp_path / "own")
    converted.save_pretrained(tmp_path / "hf")
    kept = AutoConfig.from_pretrained(tmp_path / "hf").origin
    assert kept == [origin[0], origin[1] | {"name": "model"}]


def test_what_was_written_for_transformers_opens_as_an_export_too(exported, tmp_path):
    for part in from_exported(exported):
        part.save_pretrained(tmp_path / "hub")
    ours, theirs = momo.load(exported, "cpu"), momo.load(tmp_path / "hub", "cpu")
    assert np.array_equal(ours.embed(texts=TEXTS), theirs.embed(texts=TEXTS))
    (tmp_path / "hub" / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ValueError, match=r"another model \(vit\)"):
        momo.load(tmp_path / "hub", "cpu")
