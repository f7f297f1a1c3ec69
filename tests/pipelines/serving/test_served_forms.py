"""int8 and engines behind the endpoint, and indexes that know what made them."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from prepared_rows import artifact, prepared

import momo
from momo.engines import write_engine
from momo.hf import export_folder
from momo_platform.serving.index import read_index
from momo_platform.serving.process import ModelProcess
from momo_platform.serving.state import load_state
from momo_platform.stages import UserError
from momo_platform.stages.stage import Context
from pipelines import index, serve
from pipelines.index import IndexConfig, run_index
from pipelines.serving import LOADERS, MoMoClassifierReader, MoMoReader, ServedMoMo, model_name
from pipelines.vectors import EmbedConfig, run_embed

ROWS = 40
TEXTS = ["a red apple", "two blue cats in a steamy room"]


def tokens_of(folder):
    return [tokens for tokens, _ in MoMoReader(folder).counted(TEXTS)]


def context(folder):
    return Context(folder, folder.with_name(f"{folder.name}-parts"), "s", "f", "a", lambda _: None)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    draw, files = np.random.default_rng(0), []
    for _ in range(ROWS):
        file = io.BytesIO()
        Image.fromarray(draw.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, "PNG")
        files.append(file.getvalue())
    columns = {
        "image": files,
        "captions": [[f"picture number {i}"] for i in range(ROWS)],
        "label": [""] * ROWS,
        "split": ["test"] * ROWS,
    }
    return artifact(prepared(tmp_path_factory.mktemp("corpus") / "rows", columns))


@pytest.fixture(scope="module")
def model(folders, tmp_path_factory):
    """The first model as an artifact."""
    place = tmp_path_factory.mktemp("given")
    (place / "model").symlink_to(folders["one"])
    return artifact(place)


def make_index(folder, corpus, model, precision, stored="float32"):
    embed = EmbedConfig("pair", ("test",), precision=precision)
    inputs = {"model": model, "rows": corpus}
    run_embed(embed, inputs, context(folder / "vectors"))
    inputs["vectors"] = artifact(folder / "vectors")
    run_index(IndexConfig(("test",), 0, precision, stored), inputs, context(folder / "made"))
    return str(folder / "made" / "index")


def test_the_model_process_computes_in_int8(folders):
    process = ModelProcess(ServedMoMo, folders["one"], 1, "cpu", "int8")
    tokens = tokens_of(folders["one"])
    wanted = momo.load(folders["one"], precision="int8").embed(texts=TEXTS)
    np.testing.assert_allclose(process.texts(tokens), wanted, atol=1e-5)
    assert np.abs(momo.load(folders["one"], "cpu").embed(texts=TEXTS) - wanted).max() > 1e-5
    assert process.precision == "int8"


def test_an_engine_is_served_as_the_model_is(folders, tmp_path):
    write_engine(folders["one"], tmp_path / "engine", "torch")
    process = ModelProcess(ServedMoMo, str(tmp_path / "engine"), 1)
    assert (process.name, process.dimensions) == ("momo-1", 24)
    tokens = tokens_of(str(tmp_path / "engine"))
    wanted = momo.load(folders["one"], "cpu").embed(texts=TEXTS)
    np.testing.assert_allclose(process.texts(tokens), wanted, atol=1e-5)


def test_an_index_of_one_precision_is_served_in_no_other(corpus, model, folders, tmp_path):
    made = make_index(tmp_path, corpus, model, "int8")
    assert read_index(made).precision == "int8"
    state = load_state(LOADERS, folders["one"], made, 1, "cpu", "int8")
    (score, entry), *_ = state.index.search(read_index(made).vectors.vectors[3], 2)
    assert entry["caption"] == "picture number 3"
    assert score == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(ValueError, match=r"made in int8, the model is served in fp32: serve it"):
        load_state(LOADERS, folders["one"], made, 1, "cpu", "fp32")


def test_an_index_of_int8_codes(corpus, model, tmp_path):
    made = make_index(tmp_path, corpus, model, "fp32", "int8")
    found, direct = read_index(made), momo.load(model.path / "model", "cpu")
    query = direct.embed(texts=["picture number 7"])[0]
    exact = make_index(tmp_path / "exact", corpus, model, "fp32")
    wanted = read_index(exact).search(query, 5)
    for (score, _), (right, _) in zip(found.search(query, 5), wanted, strict=True):
        assert score == pytest.approx(right, abs=0.01)
    assert json.loads((tmp_path / "made" / "index" / "index.json").read_text()) == {
        "model": "momo-1",
        "precision": "fp32",
        "vectors": "int8",
    }


def test_a_folder_for_transformers_is_served_by_a_name_of_its_weights(folders, tmp_path):
    names = set()
    for name in ("one", "two"):
        export_folder(folders[name], tmp_path / name)
        names.add(model_name(tmp_path / name))
    assert len(names) == 2
    process = ModelProcess(ServedMoMo, str(tmp_path / "one"), 1)
    assert process.name in names
    tokens = tokens_of(str(tmp_path / "one"))
    wanted = momo.load(folders["one"], "cpu").embed(texts=TEXTS)
    np.testing.assert_allclose(process.texts(tokens), wanted, atol=1e-5)


def test_another_librarys_folder_is_told(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    for reader, words in ((MoMoReader, "holds no MoMo"), (MoMoClassifierReader, "no classifier")):
        with pytest.raises(ValueError, match=f"{tmp_path} .*{words}.*: give the folder"):
            reader(str(tmp_path))


def test_options_of_both_commands(folders, monkeypatch):
    options = serve.parse(["--model", folders["one"], "--precision", "int8"])
    assert serve.config_of(options).precision == "int8"
    with pytest.raises(UserError, match="int8.* is for CPUs, but gpus=1"):
        serve.config_of(serve.parse(["--model", folders["one"], "--precision=int8", "--gpus=1"]))
    given = ["--model", folders["one"], "--vectors", "int8", "--precision", "int8"]
    assert index.index_stage(index.parse(given)).config == IndexConfig(
        ("test",), 100_000, "int8", "int8"
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="--vectors usearch: the package usearch is not there"):
        index.index_stage(index.parse(["--model", folders["one"], "--vectors", "usearch"]))
