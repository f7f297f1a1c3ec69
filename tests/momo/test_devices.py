"""Where a model computes and how exactly: the same vectors from a GPU, in each precision."""

import numpy as np
import pytest
import torch
from making_batches import CONFIG
from PIL import Image
from pretend_cuda import cuda_device

import momo
from momo.device import find_device
from momo.evaluation.finetune import Examples, FineTuneConfig, FineTuned, fine_tune, outputs_of
from momo.evaluation.heads import masked_words
from momo.evaluation.load import load_encoder
from momo.evaluation.momo_encoder import MoMoEncoder, MoMoTrunk
from momo.export import Embedder, save
from momo.model import build_model
from momo.precision import at_precision
from momo.tokenizer import train_wordpiece
from pipelines.report.pictures import HeldOutPairs, reconstructions

TEXTS = ["a red apple", "tree", "a green tree and a red apple"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "model"
    tokenizer = train_wordpiece(["a red apple", "a green tree"] * 5, CONFIG.vocab_size)
    save(build_model(CONFIG, seed=1), folder, tokenizer.to_str())
    return folder


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)


@pytest.fixture(scope="module")
def ids():
    ids = np.random.default_rng(0).integers(5, CONFIG.vocab_size, (5, 12))
    ids[:, 0], ids[:, 8], ids[:, 9:] = 2, 3, 0
    return ids


def flags():
    """What decides on TF32 on GPUs, and whether autocast is on."""
    products = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    return (*products, *(torch.is_autocast_enabled(device) for device in ("cpu", "cuda")))


def tf32():
    """Whether matrix products and convolutions take it."""
    return tuple(flag == "tf32" for flag in flags()[:2])


def cosines(found, expected):
    """Row by row, of matrices as they are."""
    assert found.dtype == np.float32
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return (found * expected).sum(axis=1) / lengths


def of_embedder(embedder, pixels):
    pictures = [Image.fromarray(p.transpose(1, 2, 0)) for p in pixels]
    return (
        embedder.embed(texts=TEXTS),
        embedder.embed_pixels(pixels, batch_size=2),
        embedder.embed(texts=TEXTS, images=pictures[:3]),
        embedder.similarity(TEXTS, pictures),
        embedder.attention(pixels[0]),
        embedder.attention(pixels[0], "a red apple"),
    )


def of_encoder(encoder, pixels, ids):
    found = masked_words(encoder, ids, ratio=0.5)
    return (
        encoder.image_features(pixels, batch_size=2),
        encoder.text_features(ids),
        encoder.embed_pixels(pixels),
        encoder.embed_texts(TEXTS),
        encoder.match(pixels, ids)[:, None],
        found.right[None].astype(np.float32),
        found.row[None].astype(np.float32),
    )


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_an_embedder_on_a_gpu_gives_what_it_gives_on_the_cpu(folder, pixels, precision):
    expected = of_embedder(momo.load(folder, "cpu"), pixels)
    with cuda_device():
        embedder = momo.load(folder, precision=precision)  # a GPU where there is one
        assert embedder.device.type == "cuda"
        found = of_embedder(embedder, pixels)
    for one, other in zip(found, expected, strict=True):
        if precision == "fp32":
            np.testing.assert_allclose(one, other, atol=1e-5)
        assert cosines(one, other).min() > 0.98
        assert one.shape == other.shape


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_encoder_under_evaluation_too(folder, pixels, ids, precision):
    expected = of_encoder(load_encoder(folder, device="cpu"), pixels, ids)
    with cuda_device():
        encoder = load_encoder(folder, device="cuda", precision=precision)
        found = of_encoder(encoder, pixels, ids)
        # The trunk's copy is trained on CUDA's autograd, which is not there: its outputs only.
        classifier = FineTuned(encoder.trunk(), 2, 0.0).to(encoder.device)
        examples = Examples(ids, np.zeros(5, dtype=np.int64), pixels)
        outputs = outputs_of(classifier, examples, 2, precision)
    assert outputs.shape == (5, 2)
    assert outputs.dtype == np.float32
    for one, other in zip(found, expected, strict=True):
        if precision == "fp32":
            np.testing.assert_allclose(one, other, atol=1e-5)
        assert one.shape == other.shape
    for one, other in zip(found[:4], expected[:4], strict=True):
        assert cosines(one, other).min() > 0.98


def test_reconstructions_for_the_report_come_from_a_gpu_as_well(folder, pixels):
    pairs = HeldOutPairs(pixels, np.arange(5), [], np.arange(0))
    expected = reconstructions(momo.load(folder, "cpu").model, pairs, 2)
    with cuda_device() as device:
        found = reconstructions(momo.load(folder, device).model, pairs, 2)
    assert [r.masked for r in found] == [r.masked for r in expected]


def test_bf16_is_near_fp32_on_cpus_and_is_what_autocast_makes(folder, pixels):
    exact, half = momo.load(folder, "cpu"), momo.load(folder, "cpu", "bf16")
    for one, other in zip(of_embedder(half, pixels), of_embedder(exact, pixels), strict=True):
        assert cosines(one, other).min() > 0.98
    assert {p.dtype for p in half.model.parameters()} == {torch.float32, torch.bfloat16}
    # Weights that are cast once are those that autocast casts in every call.
    every_time = Embedder(exact.model, exact.tokenizer, precision="bf16")
    for one, other in zip(of_embedder(half, pixels), of_embedder(every_time, pixels), strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.abs(half.embed(texts=TEXTS) - exact.embed(texts=TEXTS)).max() > 1e-5


@pytest.fixture
def restored():
    """Whatever a test sets, by torch's old names or by its new ones."""
    backends = torch.backends
    news = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul)
    values, old = [new.fp32_precision for new in news], torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(old)
    for new, value in zip(news, values, strict=True):
        new.fp32_precision = value


@pytest.mark.parametrize("others", ["nothing", "old names", "new names"])
def test_the_choice_ends_with_the_call(restored, others):
    backends, cpu = torch.backends, torch.device("cpu")
    if others == "old names":
        torch.set_float32_matmul_precision("high")
    elif others == "new names":
        backends.cuda.matmul.fp32_precision = "tf32"
        backends.cudnn.conv.fp32_precision = "ieee"
    outside, plain, fast = flags(), (False, False), (True, True)
    with cuda_device() as gpu, at_precision("tf32", gpu):
        assert tf32() == fast
        assert torch.get_float32_matmul_precision() == "high"  # torch's compiler reads it
        with at_precision("bf16", cpu):
            assert tf32() == plain
            assert torch.is_autocast_enabled("cpu")
            with at_precision("fp32", cpu), backends.cudnn.flags(allow_tf32=False):
                assert tf32() == plain
                assert torch.get_float32_matmul_precision() == "highest"
                assert not torch.is_autocast_enabled("cpu")
        assert tf32() == fast
    with at_precision("tf32", cpu):  # of GPUs alone
        assert tf32() == plain
    with pytest.raises(KeyError), at_precision("bf16", cpu):
        raise KeyError
    assert flags() == outside
    if others != "new names":
        assert torch.get_float32_matmul_precision() == ("high" if "old" in others else "highest")


def test_fine_tuning_in_bf16_learns_and_keeps_its_weights_in_fp32(monkeypatch):
    generator, labels = np.random.default_rng(0), np.arange(96) % 2
    noise = generator.integers(0, 60, (96, 3, 32, 32))
    pixels = (noise + 150 * labels[:, None, None, None]).astype(np.uint8)
    train, valid, test = (Examples(None, labels[part], pixels[part]) for part in
                          (slice(0, 48), slice(48, 72), slice(72, 96)))  # fmt: skip
    trunk, seen = MoMoTrunk(build_model(CONFIG)), []
    backward = torch.Tensor.backward
    monkeypatch.setattr(
        torch.Tensor, "backward", lambda loss: (seen.append((tf32(), flags()[2])), backward(loss))
    )
    config = FineTuneConfig(epochs=2, batch_size=16, precision="bf16", dropout=0.0)
    outside = flags()
    result = fine_tune(trunk, train, valid, test, 2, config)
    assert result.score > 0.9
    assert set(seen) == {((False, False), False)}  # autocast is of the forward pass
    assert flags() == outside
    assert {p.dtype for p in trunk.parameters()} == {torch.float32}


def test_what_is_not_there_or_unknown_is_named(folder):
    for name in ("gpu", "meta", "cuda:x"):
        with pytest.raises(ValueError, match=f"device='{name}': give cpu, cuda or cuda:N"):
            find_device(name)
    if not torch.cuda.is_available():
        assert find_device() == torch.device("cpu")
        for load in (momo.load, lambda path, device: load_encoder(path, device=device)):
            with pytest.raises(ValueError, match="device='cuda': this process sees 0 CUDA devices"):
                load(folder, "cuda")
    with cuda_device(), pytest.raises(ValueError, match="device='cuda:99': this process sees"):
        find_device("cuda:99")
    with pytest.raises(ValueError, match="precision='fp16': give fp32, tf32, bf16"):
        momo.load(folder, precision="fp16")
    with pytest.raises(ValueError, match="precision='fp16'"):
        MoMoEncoder(build_model(CONFIG), precision="fp16")
    with pytest.raises(ValueError, match="precision='half'"):
        FineTuneConfig(precision="half")
