"""Other people's models, tiny and random, through the interface that ours goes through."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers as hf
from making_batches import CONFIG
from passing_tokens import Passed, unsorted
from pretend_cuda import cuda_device
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import momo
from momo.embeddings import normalise_pixels
from momo.evaluation.encoder import pool_cells
from momo.evaluation.finetune import Examples, FineTuneConfig, FineTuned, fine_tune
from momo.evaluation.heads import masked_words, matching_scores, mismatched
from momo.evaluation.load import load_encoder
from momo.evaluation.momo_encoder import MoMoEncoder, MoMoTrunk
from momo.model import build_model, mean_of_tokens
from momo.tokenizer import encode_pairs, train_wordpiece

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(60))]
TEXTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9"]
VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
          "num_attention_heads": 2, "image_size": 32, "patch_size": 8}  # fmt: skip
TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "vocab_size": len(WORDS),
        "max_position_embeddings": 24}  # fmt: skip


def tokenizer(kind):
    """BERT's; CLIP's pads with the token that ends a text; SigLIP's ends texts with </s>."""
    names = {"clip": ("[CLS]", "[SEP]", "[SEP]"), "siglip": (None, "[SEP]", "[SEP]")}
    start, end, pad = names.get(kind, ("[CLS]", "[SEP]", "[PAD]"))
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    front = f"{start} " if start else ""
    inner.post_processor = processors.TemplateProcessing(
        single=f"{front}$A {end}",
        pair=f"{front}$A {end} $B {end}",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=pad, unk_token="[UNK]", sep_token=end,
        cls_token="[CLS]", eos_token=end, model_max_length=24,
    )  # fmt: skip


def clip():
    text = {**TEXT, "eos_token_id": 3, "bos_token_id": 2, "pad_token_id": 3}
    config = hf.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=12)
    return hf.CLIPModel(config), hf.CLIPImageProcessor()


def siglip():
    text = {**TEXT, "projection_size": 16}
    config = hf.SiglipConfig(text_config=text, vision_config=VISION)
    return hf.SiglipModel(config), hf.SiglipImageProcessor()


def flava():
    small = {k: VISION[k] for k in list(VISION)[:4]}
    config = hf.FlavaConfig(
        image_config=VISION,
        text_config=TEXT,
        multimodal_config={**small, "hidden_size": 24, "num_attention_heads": 3},
        projection_dim=12,
    )
    return hf.FlavaModel(config), hf.CLIPImageProcessor()


def vit():
    return hf.ViTModel(hf.ViTConfig(**VISION)), hf.ViTImageProcessor()


def dinov2():
    return hf.Dinov2Model(hf.Dinov2Config(**VISION)), hf.ViTImageProcessor()


def mae():
    return hf.ViTMAEModel(hf.ViTMAEConfig(**VISION)), hf.ViTImageProcessor()


def bert():
    return hf.BertModel(hf.BertConfig(**TEXT)), None


def roberta():
    config = {**TEXT, "max_position_embeddings": 26, "pad_token_id": 0, "type_vocab_size": 1}
    return hf.RobertaModel(hf.RobertaConfig(**config)), None


def distilbert():
    return hf.DistilBertModel(
        hf.DistilBertConfig(dim=16, hidden_dim=32, n_layers=2, n_heads=2, vocab_size=len(WORDS))
    ), None


KINDS = {
    "clip": (clip, {"image", "text", "pair", "aligned"}),
    "siglip": (siglip, {"image", "text", "pair", "aligned"}),
    "flava": (flava, {"image", "text", "pair", "aligned"}),
    "vit": (vit, {"image"}),
    "dinov2": (dinov2, {"image"}),
    "mae": (mae, {"image"}),
    "bert": (bert, {"text"}),
    "roberta": (roberta, {"text"}),
    "distilbert": (distilbert, {"text"}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for name, (make, can) in KINDS.items():
        model, processor = make()
        model.eval().save_pretrained(root / name)
        if processor is not None:
            processor.save_pretrained(root / name)
        if "text" in can:
            tokenizer(name).save_pretrained(root / name)
    return root


def pixels(count=3, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (count, 3, 32, 32), dtype=np.uint8)


@pytest.mark.parametrize("name", ["clip", "siglip", "flava", "mae", "bert"])
def test_they_run_where_they_are_told_and_as_exactly(folders, name):
    def encoded(encoder):
        return [
            *([encoder.image_features(pixels())] if "image" in encoder.seen else []),
            *([encoder.text_features(encoder.tokenize(TEXTS))] if "text" in encoder.seen else []),
            *([encoder.embed_pixels(pixels())] if "aligned" in encoder.seen else []),
            *([encoder.embed_texts(TEXTS)] if "aligned" in encoder.seen else []),
        ]

    expected = encoded(load_encoder(folders / name, device="cpu"))
    for precision, nearest in (("fp32", 0.9999), ("bf16", 0.98)):
        with cuda_device():
            encoder = load_encoder(folders / name, device="cuda", precision=precision)
            found = encoded(encoder)
            if {"image", "text"} <= encoder.seen:
                both = torch.as_tensor(encoder.tokenize(TEXTS)), torch.as_tensor(pixels())
                with torch.inference_mode():
                    encoder.trunk()(*(t.to(encoder.device) for t in both))
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == np.float32
            lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
            assert ((one * other).sum(axis=1) / lengths).min() > nearest


def test_weights_saved_as_bf16_are_computed_in_fp32(folders, tmp_path):
    model = hf.AutoModel.from_pretrained(folders / "vit").to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    hf.ViTImageProcessor().save_pretrained(tmp_path)
    features = load_encoder(tmp_path, device="cpu").image_features(pixels())
    whole = load_encoder(folders / "vit", device="cpu").image_features(pixels())
    np.testing.assert_allclose(features, whole, atol=0.1)


@pytest.mark.parametrize("name", KINDS)
def test_what_a_model_can_do_and_the_shapes(folders, name):
    encoder = load_encoder(folders / name, device="cpu")
    assert encoder.seen == KINDS[name][1]
    if "image" in encoder.seen:
        assert encoder.image_size == 32
        features = encoder.image_features(pixels())
        assert features.shape == (3, 16 * 16)  # 4 × 4 patches of 16
        np.testing.assert_allclose(encoder.image_features(pixels(), 2), features, atol=1e-5)
    if "text" in encoder.seen:
        ids = encoder.tokenize(TEXTS)
        features = encoder.text_features(ids)
        alone = encoder.text_features(encoder.tokenize(TEXTS[1:2]))
        assert features.shape == (3, 16)
        np.testing.assert_allclose(features[1:2], alone, atol=1e-5)
        if name != "siglip":  # which reads its padding
            cut = encoder.text_features(encoder.tokenize(TEXTS, length=8))
            np.testing.assert_allclose(features, cut, atol=1e-5)
        assert encoder.tokenize(TEXTS, length=4).shape[1] == (24 if name == "siglip" else 4)
    for capability in ("matching", "words", "aligned"):
        if capability not in encoder.seen:
            with pytest.raises(ValueError, match=f"lacks '{capability}'"):
                encoder._require(capability)


NORMS = {
    "clip": "layer_norm1", "siglip": "layer_norm1", "flava": "layernorm_before",
    "bert": "output.LayerNorm", "roberta": "output.LayerNorm", "distilbert": "sa_layer_norm",
}  # fmt: skip


@pytest.mark.parametrize("name", NORMS)
def test_texts_of_all_lengths_compute_no_padding_in_any_order(folders, name):
    g = np.random.default_rng(0)
    texts = [" ".join(g.choice(WORDS[5:], n)) for n in g.integers(1, 22, 600)]
    encoder = load_encoder(folders / name, device="cpu")
    ids = encoder.tokenize(texts)
    expected = unsorted(lambda batch: mean_of_tokens(*encoder._words(batch)), ids)
    tower = encoder.body._tower(encoder.body.text_tower)
    passed = Passed(next(m for n, m in tower.named_modules() if n.endswith(NORMS[name])))
    np.testing.assert_allclose(encoder.text_features(ids), expected, atol=1e-5)
    real = (ids != encoder.pad).sum()  # all, of a model that reads its padding
    assert real <= passed.tokens <= 1.1 * real
    if "aligned" in encoder.seen:
        vectors = unsorted(encoder._embed_ids, ids)
        np.testing.assert_allclose(encoder.embed_ids(ids), vectors, atol=1e-5)


def test_flavas_pairs_go_through_its_own_forward(folders):
    """What its multimodal encoder gets has no final norm of the towers."""
    encoder = load_encoder(folders / "flava", device="cpu")
    ids = torch.from_numpy(encoder.tokenize(["red cat", "a blue dog"], length=8))
    pictures = torch.from_numpy(pixels(2))
    trunk = encoder.trunk()
    with torch.inference_mode():
        values = trunk.pixel_values(pictures)
        inputs, _ = trunk.text_inputs(ids)
        theirs = encoder.model(pixel_values=values, **inputs).multimodal_embeddings
        ours = trunk(ids, pictures)
    width = theirs.shape[-1]
    torch.testing.assert_close(ours[:, :width], theirs[:, 0])


@pytest.mark.parametrize("name", ["clip", "siglip", "flava"])
def test_embeddings_are_those_of_the_library(folders, name):
    encoder = load_encoder(folders / name, device="cpu")
    model = hf.AutoModel.from_pretrained(folders / name).eval()
    processor = hf.AutoImageProcessor.from_pretrained(folders / name)
    with torch.inference_mode():
        std = torch.tensor(processor.image_std).view(3, 1, 1)
        mean = torch.tensor(processor.image_mean).view(3, 1, 1)
        values = (torch.from_numpy(pixels()) / 255.0 - mean) / std
        image = model.get_image_features(pixel_values=values).pooler_output
        padding = "max_length" if name == "siglip" else "longest"
        inputs = tokenizer(name)(TEXTS, return_tensors="pt", padding=padding, max_length=24)
        inputs.pop("token_type_ids", None)
        if name == "siglip":
            inputs.pop("attention_mask")
        text = model.get_text_features(**inputs).pooler_output
    first = lambda x: x[:, 0] if x.ndim == 3 else x  # noqa: E731
    unit = torch.nn.functional.normalize
    np.testing.assert_allclose(encoder.embed_pixels(pixels()), unit(first(image)), atol=1e-5)
    np.testing.assert_allclose(encoder.embed_texts(TEXTS), unit(first(text)), atol=1e-5)


def test_berts_pairs_have_two_segments(folders):
    encoder = load_encoder(folders / "bert", device="cpu")
    ids = encoder.tokenize(["w1 w2"], ["w3"], 10)
    inputs, mask = encoder.body.text_inputs(torch.from_numpy(ids))
    assert inputs["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 0, 0, 0, 0]]
    assert mask.sum() == 6


@pytest.mark.parametrize("name", [n for n, (_, can) in KINDS.items() if "text" in can])
def test_the_second_sentence_counts(folders, name):
    encoder = load_encoder(folders / name, device="cpu")
    trunk = encoder.trunk().eval()
    with torch.inference_mode():
        one, other = (
            trunk(torch.from_numpy(encoder.tokenize(["w1 w2"], [second], 12)), None)
            for second in ("w3 w4", "w8 w9")
        )
    assert (one - other).abs().max() > 1e-4


def test_a_checkpoint_without_weights_is_refused_and_without_a_pooler_is_not(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    for name, part in (("whole", "layer.0"), ("pooler", "pooler")):
        shutil.copytree(folders / "bert", tmp_path / name)
        file = tmp_path / name / "model.safetensors"
        kept = {k: v for k, v in load_file(file).items() if part not in k}
        save_file(kept, file, {"format": "pt"})
    with pytest.raises(ValueError, match="lacks 16 weights of a bert model"):
        load_encoder(tmp_path / "whole", device="cpu")
    trunk = load_encoder(tmp_path / "pooler", device="cpu").trunk().eval()
    ids = torch.tensor([[2, 9, 3]])
    with torch.inference_mode():
        first = hf.AutoModel.from_pretrained(folders / "bert").eval()(ids).last_hidden_state[:, 0]
        torch.testing.assert_close(trunk(ids, None)[:, :16], first)


def test_maes_features_hide_nothing_and_keep_their_places(folders):
    encoder = load_encoder(folders / "mae", device="cpu")
    first = encoder.image_features(pixels())
    changed = pixels()
    changed[:, :, :8, :8] = 0
    second = encoder.image_features(changed)
    distance = np.abs(first - second).reshape(3, 16, 16).mean(axis=1)  # by cell, feature-major
    cells = np.abs(first - second).reshape(3, 16, 4, 4).mean(axis=1)
    assert (cells[:, 0, 0] > 1.5 * cells.reshape(3, -1)[:, 1:].mean(axis=1)).all()
    assert distance.shape == (3, 16)
    np.testing.assert_array_equal(first, encoder.image_features(pixels()))


@pytest.mark.parametrize("name", KINDS)
def test_every_model_is_fine_tuned_by_the_same_code(folders, name):
    encoder = load_encoder(folders / name, device="cpu")
    g = np.random.default_rng(0)

    def part(count):
        labels = g.integers(0, 2, count)
        ids = shown = None
        if "text" in encoder.seen:
            ids = encoder.tokenize([f"w{1 + y} w9 w{g.integers(10, 50)}" for y in labels])
        if "image" in encoder.seen:
            noise = g.integers(0, 60, (count, 3, 32, 32))
            shown = (noise + labels[:, None, None, None] * 150).astype(np.uint8)
        return Examples(ids, labels, shown)

    config = FineTuneConfig(epochs=4, batch_size=16, learning_rate=5e-3, layer_decay=0.9)
    result = fine_tune(encoder.trunk(), part(128), part(32), part(32), 2, config)
    assert result.score > 0.9
    layers = FineTuned(encoder.trunk(), 2, 0.0).layers()
    assert len(layers) == 4  # embeddings, two blocks, the rest with the head
    assert sum(p.numel() for part in layers for p in part) == sum(
        p.numel() for p in FineTuned(encoder.trunk(), 2, 0.0).parameters()
    )


def test_a_missing_processor_or_an_unknown_model_says_so(folders, tmp_path):
    model, _ = vit()
    model.save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match="no picture processor"):
        load_encoder(tmp_path / "bare")
    model, _ = bert()
    model.save_pretrained(tmp_path / "words")
    with pytest.raises(ValueError, match="no tokenizer"):
        load_encoder(tmp_path / "words")
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        load_encoder(tmp_path / "nothing")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        load_encoder(tmp_path / "x")
    convnext = hf.ConvNextModel(hf.ConvNextConfig(hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1]))
    convnext.save_pretrained(tmp_path / "convnext")
    with pytest.raises(ValueError, match="don't know how to evaluate a convnext model"):
        load_encoder(tmp_path / "convnext")
    (tmp_path / "x" / "config.json").write_text(json.dumps({"model_type": "no-such-thing"}))
    with pytest.raises(ValueError, match="can't be loaded"):
        load_encoder(tmp_path / "x")


def test_momo_by_both_of_its_folders_gives_the_same(model, tmp_path):
    words = train_wordpiece(["a red apple", "a green tree and some more words"] * 3, 120)
    from momo.export import save
    from momo.hf.convert import from_exported

    save(model, tmp_path / "own", words.to_str(), {"text_length": 16})
    for part in from_exported(tmp_path / "own"):
        part.save_pretrained(tmp_path / "hf")
    one, other = (load_encoder(tmp_path / n, device="cpu") for n in ("own", "hf"))
    texts = ["a red apple", "more words"]
    np.testing.assert_allclose(one.embed_texts(texts), other.embed_texts(texts), atol=1e-6)
    np.testing.assert_allclose(
        one.embed_texts(texts), momo.load(tmp_path / "own", "cpu").embed(texts=texts), atol=1e-6
    )
    np.testing.assert_allclose(one.embed_pixels(pixels()), other.embed_pixels(pixels()), atol=1e-6)
    half = from_exported(tmp_path / "own")
    half[0].to(torch.bfloat16).save_pretrained(tmp_path / "half")
    half[1].save_pretrained(tmp_path / "half")
    found = load_encoder(tmp_path / "half", device="cpu").embed_pixels(pixels())
    np.testing.assert_allclose(found, one.embed_pixels(pixels()), atol=0.05)
    pairs = one.tokenize(texts, ["some tree", "a " * 40], 12)
    assert (pairs != 0).sum(axis=1).tolist() == [8, 12]
    assert (pairs == 3).sum(axis=1).tolist() == [2, 2]  # two [SEP], also where it was cut
    with pytest.raises(ValueError, match="give as many"):
        encode_pairs(words, texts, ["x"], 12)


def test_features_have_at_most_2048_values():
    for width, cells in ((64, 4), (128, 4), (192, 3), (384, 2), (768, 1)):
        assert pool_cells(torch.zeros(1, 196, width)).shape == (1, cells * cells * width)
    with pytest.raises(ValueError, match="no square"):
        pool_cells(torch.zeros(1, 5, 8))


def test_matching_and_masked_words(model):
    g = np.random.default_rng(0)
    encoder = MoMoEncoder(model, device="cpu")
    ids = g.integers(5, CONFIG.vocab_size, (40, 12))
    ids[:, 0], ids[:, 9], ids[:, 10:] = 2, 3, 0
    found = masked_words(encoder, ids)
    assert 0.0 <= found.accuracy <= 1.0
    assert 30 < len(found.right) < 70  # 15 % of 320
    assert set(found.row) <= set(range(40))
    again = masked_words(encoder, ids)
    np.testing.assert_array_equal(found.right, again.right)
    with pytest.raises(ValueError, match="no word to hide"):
        masked_words(encoder, np.array([[2, 3, 0]]))
    groups = np.arange(40) // 4
    scores, truth = matching_scores(encoder, pixels(40), ids, groups)
    assert scores.shape == truth.shape == (80,)
    assert truth.sum() == 40


@pytest.mark.parametrize(
    "groups", [np.arange(50), np.repeat([0, 1], [48, 2]), np.repeat([0, 1, 2], [5, 5, 5])]
)
def test_false_pairs_are_false(groups):
    others = mismatched(groups)
    assert (groups[others] != groups).all()
    assert np.array_equal(others, mismatched(groups))
    if len(np.unique(groups)) == len(groups):
        assert sorted(others) == list(range(len(groups)))
    with pytest.raises(ValueError, match="at least two groups"):
        mismatched(np.zeros(4))


def test_a_copy_is_trained(model):
    trunk = MoMoTrunk(model)
    classifier = FineTuned(trunk, 2, 0.0)
    assert classifier.trunk is not trunk


def test_of_pairs_the_last_block_makes_the_tokens_that_are_read_alone():
    model = build_model(CONFIG).eval()
    trunk, encoder = MoMoTrunk(model), MoMoEncoder(model)
    side = CONFIG.image_size
    pixels = torch.randint(0, 256, (3, 3, side, side), dtype=torch.uint8)
    ids = torch.tensor([[2, 7, 8, 9, 3], [2, 6, 3, 0, 0], [2, 11, 12, 3, 0]])
    mask = ids != 0
    with torch.no_grad():
        image, text = model.encode_pair(normalise_pixels(pixels), ids, mask)
        whole = torch.cat([image[:, 0], mean_of_tokens(text, mask)], dim=1)
        torch.testing.assert_close(trunk(ids, pixels), whole, rtol=1e-4, atol=1e-5)
        match = model.matching(image[:, 0])
        torch.testing.assert_close(encoder._match(pixels, ids), match, rtol=1e-4, atol=1e-5)
