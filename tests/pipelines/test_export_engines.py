"""`momo export --format`: an engine's folder with its card, and what the card says of held-out
pairs."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from prepared_rows import prepared

import momo
from momo.config import ModelConfig
from momo.export import save
from momo.model import build_model
from momo.tokenizer import train_wordpiece
from momo_platform.stages import open_storage
from momo_platform.stages.manifest import Manifest
from pipelines import to_transformers
from pipelines.held_out_pairs import held_out_pairs, likeness

CONFIG = ModelConfig(width=32, depth=1, heads=2, vocab_size=90, decoder_width=16, embed_dim=16)
PAIRS = 12


def model_in(folder):
    tokenizer = train_wordpiece([f"a picture number {i}" for i in range(20)], CONFIG.vocab_size)
    save(build_model(CONFIG), folder, tokenizer.to_str(), {"text_length": 12})
    return folder


def publish(storage, stage, fingerprint, make, inputs=()):
    space = storage.begin(stage, fingerprint)
    make(space.output)
    named = {n: {"name": n, "fingerprint": p, "content": p} for n, p in inputs}
    storage.publish(
        space,
        Manifest(
            *(stage, fingerprint, 1, space.attempt, storage.describe(space), {}, {}, named),
            *("", {}, {}, 0.0, {}, "2026-01-01T00:00:00"),
        ),
    )
    return storage.artifact(stage, fingerprint).path


def rows_in(folder):
    draw = np.random.default_rng(0)
    pictures = []
    for _ in range(PAIRS):
        file = io.BytesIO()
        Image.fromarray(draw.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, "PNG")
        pictures.append(file.getvalue())
    columns = {
        "image": pictures,
        "captions": [[f"a picture number {i}"] for i in range(PAIRS)],
        "group": [str(i) for i in range(PAIRS)],
        "split": ["test"] * (PAIRS - 2) + ["train"] * 2,
    }
    prepared(folder, columns)


@pytest.fixture
def run(tmp_path):
    """A storage with a model and the pairs that it was trained on."""
    storage = open_storage(tmp_path / "runs")
    publish(storage, "prepare-pair", "a" * 12, rows_in)
    inputs = [("prepare-pair", "a" * 12)]
    made = publish(storage, "export", "b" * 12, lambda f: model_in(f / "model"), inputs)
    return made / "model"


def export(model, output, *more):
    return to_transformers.main(["--model", str(model), "--output", str(output), *more])


def test_the_card_tells_how_near_the_engine_is_on_the_held_out_pairs(run, tmp_path, capsys):
    output = tmp_path / "my-model"
    command = ("--format", "torch", "--precision", "bf16", "--licence", "apache-2.0")
    assert export(run, output, *command) == 0
    assert "image.pt2, text.pt2, tokenizer.json written" in capsys.readouterr().out
    card = (output / "README.md").read_text()
    for words in (
        "license: apache-2.0",
        "library_name: torch",
        'momo.load("my-model")',
        "uint8 [batch, 3, 64, 64]",
        "| precision | bf16 |",
        f"on {PAIRS - 2} held-out pictures and {PAIRS - 2} captions",
        "| bf16 | 0.9999",
        "| fp32 | 1 | 1 | 1.000 |",  # R@10 of ten
    ):
        assert words in card, words
    assert str(tmp_path) not in card
    np.testing.assert_allclose(
        momo.load(output).embed(texts=["a picture"]),
        momo.load(run, "cpu").embed(texts=["a picture"]),
        atol=2e-2,
    )


def test_a_model_without_its_rows_has_a_card_that_leaves_them_out(run, tmp_path):
    alone = shutil.copytree(run, tmp_path / "alone")
    assert held_out_pairs(alone) is None
    assert export(alone, tmp_path / "out", "--format", "torch") == 0
    assert "held-out" not in (tmp_path / "out" / "README.md").read_text()
    shutil.rmtree(tmp_path / "runs" / "prepare-pair")
    assert held_out_pairs(run) is None


def test_int8_is_compared_likewise(run):
    items = held_out_pairs(run)
    assert len(items.pictures) == PAIRS - 2
    whole = momo.load(run, "cpu")
    found = likeness(momo.load(run, precision="int8"), whole, items)
    assert (found.pictures, found.texts, found.whole_recall) == (10, 10, 1.0)
    assert 0.999 < found.image_cosine < 1.0
    assert 0.999 < found.text_cosine < 1.0
    assert likeness(whole, whole, items).text_cosine == pytest.approx(1.0, abs=1e-6)


def test_mistakes_are_told_in_a_line(run, tmp_path, capsys):
    for command, told in (
        (("--precision", "int8"), "--format transformers keeps fp32"),
        (("--format", "torch", "--precision", "int8"), "--format torch: precision='int8'"),
        (("--format", "onnx", "--precision", "bf16"), "no bf16 products on CPUs"),
    ):
        assert export(run, tmp_path / "out", *command) == 2
        assert told in capsys.readouterr().err
    assert export(tmp_path / "none", tmp_path / "out", "--format", "torch") == 2
    assert "none" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_engine_has_of_the_config_what_others_may_read(run, tmp_path, capsys):
    alone = shutil.copytree(run, tmp_path / "alone")
    config = json.loads((alone / "config.json").read_text())
    config |= {"origin": [{"name": "/home/me/vit"}], "auto_map": {}, "architectures": ["M"]}
    (alone / "config.json").write_text(json.dumps({**config, "artifact": "export/1"}))
    assert export(alone, tmp_path / "out", "--format", "torch") == 0
    found = json.loads((tmp_path / "out" / "config.json").read_text())
    assert set(found) == {"model", "text_length", "artifact", "origin", "engine"}
    assert found["origin"] == [{"name": "vit"}]
    assert "sentence-transformers" not in (tmp_path / "out" / "README.md").read_text()

    (alone / "config.json").write_text(json.dumps({**config, "origin": None}))
    assert export(alone, tmp_path / "none", "--format", "torch") == 0
    assert export(alone, run.parent / "inside", "--format", "torch") == 2
    assert "an artifact of a storage" in capsys.readouterr().err


@pytest.mark.slow
def test_onnx_by_the_command(run, tmp_path):
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    assert export(run, tmp_path / "out", "--format", "onnx", "--precision", "int8") == 0
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    engine = config["engine"]
    assert (engine["format"], engine["precision"]) == ("onnx", "int8")
    assert "| int8 | 0.99" in (tmp_path / "out" / "README.md").read_text()
