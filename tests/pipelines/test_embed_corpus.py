"""A whole corpus is embedded: order, what goes on after a kill, and where files go."""

import contextlib
import importlib.util
import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from prepared_rows import artifact, prepared

import momo
from momo.config import ModelConfig
from momo.engines import write_engine
from momo.export import save
from momo.model import build_model
from momo.tokenizer import train_wordpiece
from momo.transforms import decode
from momo_platform.data.artifacts import Rows
from momo_platform.data.prepared import read_rows
from momo_platform.stages import UserError
from momo_platform.stages.stage import Context
from momo_platform.stages.storage.place import Place
from pipelines import embed, embed_corpus, vectors
from pipelines.vectors import (
    ALL_SPLITS,
    EmbedConfig,
    EmbedJob,
    ShardEmbedder,
    VectorRows,
    run_embed,
)

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ModelConfig(width=16, depth=1, heads=1, image_size=16, vocab_size=60, embed_dim=8)
SPLITS = ("train", "train", "valid", "train", "test")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An artifact with a model."""
    folder = tmp_path_factory.mktemp("embedder")
    words = train_wordpiece(["picture number 0 1 2 3 4 5 6 7 8 9"] * 3, CONFIG.vocab_size)
    save(build_model(CONFIG, 0), folder / "model", words.to_str())
    return artifact(folder)


def png(number):
    pixels = np.random.default_rng(number).integers(0, 255, (20, 24, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def corpus(folder, count=40, sources=2):
    """Pairs with labels, in shards of several sources and with held-out ones, as an artifact."""
    number = range(count)
    columns = {
        "image": [png(i) for i in number],
        "captions": [[f"picture number {i}", "another"][: 1 + i % 2] for i in number],
        "text": [f"number {i}" for i in number],
        "label": [f"class {i % 3}" for i in number],
        "split": [SPLITS[i % len(SPLITS)] for i in number],
        "source": [f"s{i % sources}" for i in number],
    }
    return artifact(prepared(folder, columns, row_group=8))


def context(folder, progress=lambda _: None):
    return Context(folder, folder.with_name(f"{folder.name}-parts"), "embed", "f", "a", progress)


def made_of(config, model, rows, folder, **options):
    """Embed in this process, or on Ray where it runs; the vectors."""
    run_embed(config, {"model": model, "rows": rows}, context(folder, **options))
    return VectorRows(folder)


def all_rows(rows, columns):
    return read_rows(rows, columns, ALL_SPLITS).to_pydict()


def test_vectors_are_those_of_the_model_in_the_order_of_the_rows(model, tmp_path):
    rows = corpus(tmp_path / "rows")
    given = all_rows(Rows(rows.path), ["source", "key", "split", "label", "captions", "image"])
    found = made_of(EmbedConfig("pair"), model, rows, tmp_path / "vectors")
    table = read_rows(found, found.index().columns, ALL_SPLITS)
    for name in ("source", "key", "split", "label"):
        assert table[name].to_pylist() == given[name]
    assert table["captions"].to_pylist() == [len(some) for some in given["captions"]]
    assert table.schema.field("image").type == pa.list_(pa.float32(), 8)
    direct = momo.load(model.path / "model", "cpu")
    expected = direct.embed(images=[decode(raw) for raw in given["image"]])
    assert np.abs(found.pictures(ALL_SPLITS) - expected).max() < 1e-6
    expected = direct.embed(texts=[some[0] for some in given["captions"]])
    assert np.abs(np.array(table["text"].to_pylist()) - expected).max() < 1e-6
    names = [
        [f.file for f in [*r.index().held_out, *r.index().shards]] for r in (found, Rows(rows.path))
    ]
    assert names[0] == names[1]
    assert len(names[0]) == 3
    assert len(pq.read_table(tmp_path / "vectors" / "shards" / "s1-00000.parquet")) == 12


@pytest.mark.parametrize(("kind", "told"), [("image", ["label"]), ("text", [])])
def test_pictures_and_texts_have_one_vector(kind, told, model, tmp_path):
    rows = corpus(tmp_path / "rows")
    found = made_of(EmbedConfig(kind), model, rows, tmp_path / "vectors")
    table = read_rows(found, found.index().columns, ALL_SPLITS)
    assert table.column_names == ["source", "key", "split", *told, "vector"]
    given, direct = (
        all_rows(Rows(rows.path), ["image", "text"]),
        momo.load(model.path / "model", "cpu"),
    )
    pictures = [decode(raw) for raw in given["image"]]
    of = {"images": pictures} if kind == "image" else {"texts": given["text"]}
    assert np.abs(np.array(table["vector"].to_pylist()) - direct.embed(**of)).max() < 1e-6


def test_splits_and_a_limit_choose_the_first_rows_of_them(model, tmp_path, monkeypatch):
    monkeypatch.setattr(vectors, "_TOGETHER", 3)
    rows = corpus(tmp_path / "rows")
    for number, (splits, limit) in enumerate([(("valid",), 0), (("test", "train"), 21), ((), 5)]):
        config = EmbedConfig("image", splits, limit)
        found = made_of(config, model, rows, tmp_path / f"{number}")
        chosen = splits or ALL_SPLITS
        expected = read_rows(Rows(rows.path), ["key"], chosen, limit or None)["key"].to_pylist()
        assert read_rows(found, ["key"], ALL_SPLITS)["key"].to_pylist() == expected
        assert limit in (0, len(expected))
    none = artifact(prepared(tmp_path / "none", {"image": [png(1)], "label": ["x"]}))
    found = made_of(EmbedConfig("image", ("test",)), model, none, tmp_path / "empty")
    assert found.index().shards == found.index().held_out == ()
    assert found.pictures(("test",)).shape[0] == 0


class Stopped(Exception):
    """As a driver that is killed."""


def stop_at(rows):
    """A progress callable that ends the driver once so many rows are embedded."""

    def progress(said):
        if said.get("step", 0) >= rows:
            raise Stopped

    return progress


def test_what_an_interrupted_attempt_made_is_not_made_again(model, tmp_path, monkeypatch):
    made, embedded = [], ShardEmbedder._embedded
    monkeypatch.setattr(
        ShardEmbedder,
        "_embedded",
        lambda self, file, most: made.append(file.file) or embedded(self, file, most),
    )
    rows, config = corpus(tmp_path / "rows", sources=4), EmbedConfig("pair")
    whole = made_of(config, model, rows, tmp_path / "whole")
    names = made.copy()
    assert len(names) == 5
    made.clear()
    with pytest.raises(Stopped):
        made_of(config, model, rows, tmp_path / "again", progress=stop_at(20))
    assert made == names[:2]
    lost = tmp_path / "again" / names[1]
    lost.unlink()  # a record whose file is gone counts for nothing
    again = made_of(config, model, rows, tmp_path / "again")
    assert made == [*names[:2], *names[1:]]
    assert again.index() == whole.index()
    made.clear()
    given = context(tmp_path / "again")
    run_embed(config, {"model": artifact(tmp_path / "gone"), "rows": rows}, given)
    assert not made  # nor is the model loaded
    facts = {f.file: f.sha256 for f in (*again.index().held_out, *again.index().shards)}
    assert {name: one["sha256"] for name, one in given.made_files.items()} == facts


def actors():
    """Process ids of Ray's actors that embed."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit():
                line = (folder / "cmdline").read_bytes()
                if b"ray::" in line and b"MapBatches(_OnTables)" in line:
                    found.append(int(folder.name))
    return found


def test_actors_that_are_killed_and_a_driver_that_is_change_nothing(ray_local, model, tmp_path):
    rows = corpus(tmp_path / "rows", count=240, sources=12)
    config = EmbedConfig("pair", workers=2, cpus=0.5)
    with pytest.raises(Stopped):
        made_of(config, model, rows, tmp_path / "vectors", progress=stop_at(60))
    first = {p: p.stat().st_mtime_ns for p in (tmp_path / "vectors").rglob("*.parquet")}
    killed, done = [], threading.Event()

    def kill_one():
        while not done.is_set() and not killed:
            for pid in actors()[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
            time.sleep(0.01)

    killer = threading.Thread(target=kill_one)
    killer.start()
    found = made_of(config, model, rows, tmp_path / "vectors")
    done.set()
    killer.join()
    assert killed, "no actor was caught at work"
    files = [*found.index().held_out, *found.index().shards]
    assert len(files) == 13
    assert 0 < len(first) < 13
    assert all(path.stat().st_mtime_ns == time for path, time in first.items())
    given = all_rows(Rows(rows.path), ["key", "image", "captions"])
    table = read_rows(found, ["key", "text"], ALL_SPLITS)
    assert table["key"].to_pylist() == given["key"]
    direct = momo.load(model.path / "model", "cpu")
    expected = direct.embed(images=[decode(raw) for raw in given["image"]])
    assert np.abs(found.pictures(ALL_SPLITS) - expected).max() < 1e-6
    expected = direct.embed(texts=[some[0] for some in given["captions"]])
    assert np.abs(np.array(table["text"].to_pylist()) - expected).max() < 1e-6
    with pytest.raises(UserError, match="holds no exported model"):
        made_of(config, artifact(tmp_path), rows, tmp_path / "none")


def test_files_are_linked_into_the_output_and_earlier_ones_go(model, tmp_path, monkeypatch):
    config, out = EmbedConfig("image"), tmp_path / "out"
    four = made_of(config, model, corpus(tmp_path / "a", sources=4), tmp_path / "four")
    two = made_of(config, model, corpus(tmp_path / "b", sources=2), tmp_path / "two")
    embed_corpus.hand_out(four, Place(str(out)))
    assert os.path.samefile(
        out / "shards/s3-00000.parquet", tmp_path / "four/shards/s3-00000.parquet"
    )
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("other file system")))
    embed_corpus.hand_out(two, Place(str(out)))
    files = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    whole = tmp_path / "two"
    assert files == {str(p.relative_to(whole)): p.read_bytes() for p in whole.rglob("*.*")}
    assert len(four.index().shards) == 4
    assert all((tmp_path / "four" / shard.file).exists() for shard in four.index().shards)


def test_what_can_not_be_written_is_refused_before_anything_runs(model, tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("mine")
    common = ["--model", str(model.path / "model"), "--storage", str(tmp_path / "runs")]

    def make(*options):
        given = [*common, "--text.source", str(tmp_path / "notes.txt"), *options]
        return embed_corpus.make_vectors(embed_corpus.parse(given), given)

    with pytest.raises(UserError, match=r"there are other files \(notes.txt"):
        make("--output", str(tmp_path))
    with pytest.raises(UserError, match="give --output too"):
        make("--format", "lance")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="pip install pylance"):
        make("--format", "lance", "--output", str(tmp_path / "out"))


def test_gpus_for_what_computes_on_cpus_are_refused_in_the_plan(model, tmp_path):
    write_engine(model.path / "model", tmp_path / "engine", "torch")
    for folder, more, words in (
        (tmp_path / "engine", (), "--gpus 1: the engine in .* computes on the CPU"),
        (model.path / "model", ("--precision", "int8"), "--gpus 1 --precision int8: int8"),
    ):
        options = embed_corpus.parse(["--model", str(folder), "--gpus", "1", *more])
        with pytest.raises(UserError, match=words):
            embed_corpus.embedded(options, "pair")


def test_an_engine_embeds_on_the_cpu_and_says_what_to_install(model, tmp_path, monkeypatch):
    write_engine(model.path / "model", tmp_path / "given" / "model", "torch")
    engine, rows = artifact(tmp_path / "given"), corpus(tmp_path / "rows")
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"GPU": 1.0})
    jobs = []
    monkeypatch.setattr(
        "momo_platform.data.tasks.run_on_actors",
        lambda tasks, make, actors: jobs.append((make.args[0].device, actors.gpus)) or (),
    )
    with contextlib.suppress(KeyError):  # nothing was made
        made_of(EmbedConfig("text"), engine, rows, tmp_path / "vectors")
    assert jobs == [("cpu", 0.0)]
    (config,) = (tmp_path / "given").rglob("config.json")
    config.write_text(config.read_text().replace('"torch"', '"onnx"'))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    job = EmbedJob(EmbedConfig("text"), engine, rows.place, rows.place, rows.place, "cpu")
    with pytest.raises(UserError, match="pip install 'momo-ray.onnx.'"):
        _ = ShardEmbedder(job).model


def test_lance_has_the_rows_in_their_order(model, tmp_path):
    lance = pytest.importorskip("lance")
    found = made_of(EmbedConfig("pair"), model, corpus(tmp_path / "rows"), tmp_path / "vectors")
    embed_corpus.write_lance(found, str(tmp_path / "out.lance"))
    table = lance.dataset(str(tmp_path / "out.lance")).to_table()
    assert table.equals(read_rows(found, found.index().columns, ALL_SPLITS).combine_chunks())


def test_a_source_makes_it_a_corpus(model, tmp_path, capsys):
    common = ["--model", str(model.path / "model"), "--storage", str(tmp_path)]
    assert embed.main(["--pair.source", str(tmp_path / "none.csv"), *common]) == 2
    assert "none.csv" in capsys.readouterr().err
    two = ["--text.source", "demo", "--image.source", "demo"]
    assert embed.main([*two, *common]) == 2
    assert "give one of them" in capsys.readouterr().err
    options = embed_corpus.parse([*common, "--preset", "smoke", "--splits", "train", "valid"])
    stage = embed_corpus.embedded(options, embed_corpus.chosen_corpus(options), options.splits)
    assert (stage.config.corpus, stage.config.splits) == ("pair", ("train", "valid"))
    assert stage.inputs["rows"].name == "prepare-pair"
    assert stage.inputs["rows"].config.image.size_cap == CONFIG.image_size
    assert stage.continues


def test_its_plan_loads_no_arrow_and_no_torch(model):
    program = (
        "import sys; from pipelines import embed_corpus as e; "
        f"o = e.EmbedOptions(model={str(model.path / 'model')!r}, preset='smoke'); "
        "e.embedded(o, 'pair'); "
        "print({'torch', 'ray', 'pyarrow', 'numpy', 'PIL'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "set()", done.stderr
