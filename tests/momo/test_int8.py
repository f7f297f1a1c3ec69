"""Models in 8-bit integers: near fp32, whatever the batch and the processor."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from making_batches import CONFIG, make_batch
from torch import nn

import momo
from momo import int8
from momo.block import MLP
from momo.classifier import load_classifier
from momo.config import TaskConfig
from momo.embeddings import normalise_pixels
from momo.evaluation.finetune import FineTuneConfig
from momo.evaluation.momo_encoder import MoMoEncoder
from momo.evaluation.retrieval import zero_shot_retrieval
from momo.export import Embedder, save, with_layers_kept
from momo.int8 import Int8Linear
from momo.model import build_model
from momo.precision import check_device
from momo.tasks import MoMoTask
from momo.tokenizer import train_wordpiece
from momo_platform.training.config import TrainConfig

ROWS = 128


@pytest.fixture(scope="module")
def trained():
    """A model whose pictures find their texts, more or less, and the pairs."""
    torch.manual_seed(0)
    task = MoMoTask(build_model(CONFIG, seed=1), TaskConfig(modalities=("pair",)))
    batch = make_batch("pair", rows=ROWS)
    optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=2e-3)
    for _ in range(40):
        losses = task("pair", batch)
        optimizer.zero_grad()
        torch.stack([loss.sum / loss.count for loss in losses.values()]).sum().backward()
        optimizer.step()
        task.after_step()
    return task.model.eval(), batch


@pytest.fixture
def exported(trained, tmp_path):
    tokenizer = train_wordpiece(["a red apple", "a green tree"] * 5, CONFIG.vocab_size)
    save(trained[0], tmp_path / "model", tokenizer.to_str())
    return tmp_path / "model"


def vectors(model, batch):
    with torch.inference_mode():
        ids = batch["ids"]
        images = model.embed_image(normalise_pixels(batch["pixels"]))
        return images.numpy(), model.embed_text(ids, ids != 0).numpy()


def recall(images, texts):
    groups = np.arange(len(images))
    found = zero_shot_retrieval(images, texts, groups, groups, (10,)).recalls
    return sum(found.values()) / 2


def test_vectors_and_retrieval_of_a_trained_model_stay(exported, trained):
    whole, batch = trained
    small = momo.load(exported, precision="int8").model
    assert sum(isinstance(m, Int8Linear) for m in small.modules()) == 4 * CONFIG.depth
    exact, near = vectors(whole, batch), vectors(small, batch)
    assert 0.2 < recall(*exact) < 1.0
    for a, b in zip(exact, near, strict=True):
        assert (a * b).sum(axis=1).mean() > 0.999
        assert np.abs(a - b).max() > 1e-5  # it does compute otherwise
    assert abs(recall(*exact) - recall(*near)) <= 0.01


def test_a_vector_does_not_depend_on_its_batch(exported):
    embedder = momo.load(exported, "cpu", "int8")
    texts = ["a red apple", "tree", "a green tree and a red apple " * 9]
    together = embedder.embed(texts=texts)
    for row, text in enumerate(texts):
        np.testing.assert_allclose(embedder.embed(texts=[text])[0], together[row], atol=1e-4)


@pytest.mark.parametrize("rows", [1, 7, 600])
def test_a_processor_without_the_instruction_gets_the_same(rows, monkeypatch):
    torch.manual_seed(0)
    linear, x = nn.Linear(40, 24), torch.randn(2, rows, 40)
    layer = Int8Linear(linear)
    with torch.inference_mode():
        here = layer(x)
        monkeypatch.setattr(int8, "is_fast", lambda: False)
        elsewhere = layer(x)
        assert torch.nn.functional.cosine_similarity(here, linear(x), dim=-1).min() > 0.999
    torch.testing.assert_close(here, elsewhere, atol=1e-6, rtol=1e-5)
    assert here.shape == (2, rows, 24)


def test_a_layer_without_bias_and_rows_of_zeros():
    linear = nn.Linear(8, 4, bias=False)
    with torch.inference_mode():
        assert Int8Linear(linear)(torch.zeros(3, 8)).equal(torch.zeros(3, 4))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_the_activation_behind_a_layer(approximate):
    torch.manual_seed(0)
    linear, act, x = nn.Linear(40, 24), nn.GELU(approximate), torch.randn(2, 300, 40)
    with torch.inference_mode():
        found = Int8Linear(linear, act)(x)
        torch.testing.assert_close(found, act(Int8Linear(linear)(x)), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("activation, own", [("gelu", 0), ("gelu_tanh", 0), ("quick_gelu", 4)])
def test_any_activation_stays_what_it_is(activation, own):
    config = replace(CONFIG, depth=4, activation=activation)
    model = build_model(config, seed=1).eval()
    ids = torch.randint(5, 20, (3, 7))
    with torch.inference_mode():
        exact = model.embed_text(ids, ids != 0)
        small = with_layers_kept(model, "int8")
        near = small.embed_text(ids, ids != 0)
    assert (exact * near).sum(dim=-1).min() > 0.999
    parts = [part for block in small.encoder_blocks() for part in block.modules()]
    acts = [part.act for part in parts if isinstance(part, MLP)]
    assert len(acts) == 4
    assert sum(not isinstance(act, nn.Identity) for act in acts) == own


def test_a_classifier_in_int8(trained, tmp_path):
    from momo.classifier import save_classifier
    from momo.evaluation.finetune import FineTuned
    from momo.evaluation.momo_encoder import MoMoTrunk

    tuned = FineTuned(MoMoTrunk(trained[0]), 3, 0.0).eval()
    save_classifier(
        tmp_path / "c", tuned, classes=["a", "b", "c"], inputs="image", tokenizer_json=None
    )
    pictures = [p.permute(1, 2, 0).numpy() for p in trained[1]["pixels"][:9]]
    whole = load_classifier(tmp_path / "c", "cpu").probabilities(images=pictures)
    small = load_classifier(tmp_path / "c", precision="int8").probabilities(images=pictures)
    np.testing.assert_allclose(small, whole, atol=0.02)
    assert np.abs(small - whole).max() > 0


def test_a_gpu_refuses_it_and_so_does_training(exported):
    with pytest.raises(ValueError, match=r"int8.*is for CPUs, not for cuda"):
        check_device("int8", torch.device("cuda", 0))
    with pytest.raises(ValueError, match=r"give fp32, tf32, bf16, int8"):
        momo.load(exported, "cpu", "int4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="precision='int8'"):
        TrainConfig(steps=1, batch_sizes={"image": 1}, precision="int8")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"fp32, tf32, bf16; int8 is for models that momo\.load"):
        FineTuneConfig(precision="int8")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="int8 is for models"):
        MoMoEncoder(build_model(CONFIG), precision="int8")  # type: ignore[arg-type]


def test_an_embedder_around_a_model_in_int8(trained):
    tokenizer = train_wordpiece(["a red apple"] * 5, CONFIG.vocab_size)
    model = build_model(CONFIG, seed=1)
    whole = Embedder(model, tokenizer).embed(texts=["a red apple"])
    small = Embedder(with_layers_kept(model, "int8"), tokenizer, precision="int8")
    assert float((small.embed(texts=["a red apple"]) * whole).sum()) > 0.999
    assert small.attention(np.zeros((3, 32, 32), np.uint8), "a red apple").shape == (4, 4)
