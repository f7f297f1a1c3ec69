"""Exports for other engines embed as the model does."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from making_batches import CONFIG
from torch.export import Dim

import momo
from momo.config import ModelConfig
from momo.engines import FORMATS, check_engine, write_engine
from momo.engines.graphs import exported_graph
from momo.export import load_model, save
from momo.model import build_model
from momo.tokenizer import train_wordpiece

WORDS = ["a red apple", "a green tree", "two blue cats in the rain of a very long day"]
TEXTS = [*WORDS, "tree", "a red apple " * 30, WORDS[2]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("engines") / "model"
    tokenizer = train_wordpiece(WORDS * 5, CONFIG.vocab_size)
    facts = {"artifact": "toy/1", "text_length": 20}
    save(build_model(CONFIG, seed=1), place, tokenizer.to_str(), facts)
    return place


@pytest.fixture(scope="module")
def pictures():
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (50, 60, 3), dtype=np.uint8) for _ in range(5)]


def needs(format_):
    for package in {"onnx": ("onnxscript", "onnxruntime"), "openvino": ("openvino",)}[format_]:
        pytest.importorskip(package)


def agree(engine, folder, pictures, atol):
    """Texts of several lengths, alone and in batches, pictures one and several, and pairs."""
    whole = momo.load(folder, "cpu")
    for some in (TEXTS, TEXTS[:1], WORDS[:2] * 20):
        found, wanted = engine.embed(texts=some), whole.embed(texts=some)
        np.testing.assert_allclose(found, wanted, atol=atol)
        assert found.dtype == np.float32
    for some in (pictures, pictures[:1]):
        found, wanted = engine.embed(images=some), whole.embed(images=some)
        np.testing.assert_allclose(found, wanted, atol=atol)
    pairs = {"texts": TEXTS[:5], "images": pictures}
    np.testing.assert_allclose(engine.embed(**pairs), whole.embed(**pairs), atol=2 * atol)


@pytest.mark.parametrize("shape", [{}, {"tower_depth": 1}, {"class_attention": True}])
def test_a_graph_holds_for_masks_with_and_without_padding(shape):
    """Made of one batch, right for others: with padding, without, longer, and of one row."""
    model = build_model(ModelConfig(**{**CONFIG.to_dict(), **shape}), seed=3).eval()
    text = exported_graph(model, "text").module()
    image = exported_graph(model, "image").module()
    g = torch.Generator().manual_seed(0)
    for rows, length, padded in ((3, 5, 0), (3, 5, 2), (1, 24, 0), (1, 7, 3), (9, 2, 1)):
        ids = torch.randint(5, CONFIG.vocab_size, (rows, length), generator=g)
        ids[-1, length - padded :] = 0
        with torch.inference_mode():
            torch.testing.assert_close(text(ids), model.embed_text(ids, ids != 0))
    for rows in (1, 4):
        pixels = torch.randint(0, 256, (rows, 3, 32, 32), generator=g, dtype=torch.uint8)
        with torch.inference_mode():
            whole = model.embed_image(momo.export.normalise_pixels(pixels))
            torch.testing.assert_close(image(pixels), whole)


def test_what_is_traced_looks_at_no_mask(monkeypatch):
    """torch.export of the bare method, without gradients as a server computes."""
    model = build_model(CONFIG).eval()

    class Texts(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, ids, mask):
            return self.model.embed_text(ids, mask)

    full = torch.full((2, 6), 7), torch.ones(2, 6, dtype=torch.bool)
    axes = {0: Dim("batch"), 1: Dim("length", max=24)}
    with torch.inference_mode():
        graph = torch.export.export(Texts(), full, dynamic_shapes=(axes, axes)).module()
        traced = torch.jit.trace(Texts(), full, check_trace=False)
        ids, mask = torch.full((3, 9), 7), torch.ones(3, 9, dtype=torch.bool)
        mask[1, 4:] = False
        wanted = model.embed_text(ids, mask)
        torch.testing.assert_close(graph(ids, mask), wanted)
        torch.testing.assert_close(traced(ids, mask), wanted)


@pytest.mark.parametrize("precision, atol", [("fp32", 1e-5), ("bf16", 2e-2)])
def test_programs_of_torch(folder, pictures, tmp_path, precision, atol):
    write_engine(folder, tmp_path / "torch", "torch", precision)
    engine = momo.load(tmp_path / "torch")
    assert (engine.format, engine.precision, engine.text_length) == ("torch", precision, 20)
    agree(engine, folder, pictures, atol)


def test_a_program_runs_without_this_package(folder, tmp_path):
    write_engine(folder, tmp_path / "torch", "torch")
    ids = momo.load(folder, "cpu").token_ids(WORDS[:1])
    script = (
        "import sys, torch\n"
        f"program = torch.export.load({str(tmp_path / 'torch' / 'text.pt2')!r}).module()\n"
        f"print(program(torch.tensor({ids})).tolist())\n"
        "assert 'momo' not in sys.modules\n"
    )
    environment = {"PATH": "", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True
    )
    assert not done.returncode, done.stderr[-2000:]
    wanted = momo.load(folder, "cpu").embed(texts=WORDS[:1])
    np.testing.assert_allclose(json.loads(done.stdout), wanted, atol=1e-5)


@pytest.mark.slow
def test_onnx_in_fp32_is_the_model(folder, pictures, tmp_path):
    needs("onnx")
    write_engine(folder, tmp_path / "onnx", "onnx")
    agree(momo.load(tmp_path / "onnx"), folder, pictures, 1e-4)


@pytest.mark.slow
def test_onnx_in_int8_is_near_and_small(folder, pictures, tmp_path):
    needs("onnx")
    for precision in ("fp32", "int8"):
        write_engine(folder, tmp_path / precision, "onnx", precision)
    whole, engine = momo.load(folder, "cpu"), momo.load(tmp_path / "int8", precision="int8")
    for given in ({"texts": TEXTS}, {"images": pictures}):
        cosines = (engine.embed(**given) * whole.embed(**given)).sum(axis=1)
        assert cosines.mean() > 0.999
    sizes = [(tmp_path / p / "text.onnx").stat().st_size for p in ("int8", "fp32")]
    assert sizes[0] < 0.8 * sizes[1]


@pytest.mark.slow
@pytest.mark.parametrize("precision, atol", [("fp32", 1e-4), ("bf16", 2e-2)])
def test_openvino(folder, pictures, tmp_path, precision, atol):
    needs("openvino")
    write_engine(folder, tmp_path / "openvino", "openvino", precision)
    agree(momo.load(tmp_path / "openvino"), folder, pictures, atol)


def test_pairs_are_computed_in_the_batches_that_are_asked_for(folder, pictures, monkeypatch):
    model, sizes = momo.load(folder, "cpu"), []
    encode = model._encode_pixels
    monkeypatch.setattr(model, "_encode_pixels", lambda p: sizes.append(len(p)) or encode(p))
    found = model.embed(texts=TEXTS[:5], images=pictures, batch_size=2, dimensions=4)
    assert sizes == [2, 2, 1]
    wanted = model.embed(texts=TEXTS[:5], images=pictures, dimensions=4)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_what_an_engine_can_not_do_is_told(folder, tmp_path, monkeypatch):
    write_engine(folder, tmp_path / "torch", "torch")
    with pytest.raises(
        ValueError, match=r"is an torch engine in fp32, not int8: .*--precision int8"
    ):
        momo.load(tmp_path / "torch", precision="int8")
    with pytest.raises(ValueError, match="holds an engine .torch., which embeds only"):
        load_model(tmp_path / "torch")
    with pytest.raises(ValueError, match="EngineEmbedder gives vectors only"):
        momo.load(tmp_path / "torch").attention(np.zeros((3, 32, 32), np.uint8))
    (tmp_path / "torch" / "image.pt2").unlink()
    with pytest.raises(FileNotFoundError, match=r"image\.pt2 is missing: export"):
        momo.load(tmp_path / "torch")
    with pytest.raises(ValueError, match="give onnx, openvino, torch"):
        check_engine("tflite", "fp32")
    with pytest.raises(ValueError, match="give fp32 or int8; ONNX Runtime has no bf16"):
        check_engine("onnx", "bf16")
    with pytest.raises(ValueError, match=r"give fp32 or bf16; momo\.load"):
        check_engine("torch", "int8")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for format_ in FORMATS[:2]:
        with pytest.raises(ImportError, match=rf"pip install 'momo-ray\[{format_}\]'"):
            check_engine(format_, "fp32")
