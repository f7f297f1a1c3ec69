"""Mixing: what a mixture takes of prepared rows, how often, and what it is measured on."""

import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from making_shards import prepared
from prepared_rows import prepared as rows_in
from preparing import Folder

from momo_platform.data.artifacts import Mixture, MixtureIndex, PreparedRows, Rows
from momo_platform.data.config import MixConfig
from momo_platform.data.dataset import ShardDataset, left_out_rows, open_rows
from momo_platform.data.order import SampleOrder
from momo_platform.data.shard_reader import ShardReader, read_columns
from momo_platform.data.valid_part import valid_rows, write_valid
from momo_platform.stages import UserError
from momo_platform.stages.storage.place import Place
from pipelines.modalities.image import run_mix_image
from pipelines.modalities.pair import run_mix_pair
from pipelines.modalities.text import run_mix_text


def an_epoch(out, rows, given=None):
    """Rows of a mixture, in the order of training."""
    dataset = open_rows(Mixture(out.path), given and PreparedRows(given.path))
    _, numbers = SampleOrder(dataset.sources, 50, seed=1).rows_at(0, rows)
    return dataset.read(numbers)


def measured_on(out):
    valid = ShardDataset(Mixture(out.path).valid)
    return valid.read(np.arange(len(valid)))


def numbers_in(table):
    return [int(raw) for raw in table["image"].to_pylist()]


def test_mixing_follows_weights_and_leaves_held_out_rows_out(tmp_path):
    count = 2000
    source = ["often"] * 500 + ["seldom"] * 1000 + ["never"] * 500
    images = [str(i).encode() for i in range(count)]
    split = ["test" if i % 10 == 0 else "train" for i in range(count)]
    split[5::20] = ["valid"] * 100
    columns = {"image": images, "captions": [["c"]] * count, "source": source, "split": split}
    columns["group"] = [str(i) for i in range(count)]
    inputs = {"prepared": prepared(tmp_path / "prepared", **columns)}
    config = MixConfig({"often": 2.0, "seldom": 0.5, "never": 0.0}, seed=1, valid_rows=50)
    orders, measured = [], []
    for name, run in (("a", run_mix_pair), ("b", run_mix_pair), ("c", run_mix_image)):
        out = Folder(tmp_path / name)
        metrics = run(config, inputs, out.context)
        assert metrics["rows"] == 2 * 425 + 425 == 1275
        assert metrics["sources"] == {
            "often": {"available": 425, "weight": 2.0, "rows": 850, "share": 0.666667},
            "seldom": {"available": 850, "weight": 0.5, "rows": 425, "share": 0.333333},
            "never": {"available": 425, "weight": 0.0, "rows": 0, "share": 0.0},
        }
        table = an_epoch(out, 1275, inputs["prepared"])
        assert table.column_names == (["image"] if name == "c" else ["image", "captions", "group"])
        orders.append(numbers_in(table))
        assert metrics["valid_rows"] == len(measured_on(out))
        measured.append(numbers_in(measured_on(out)))
    assert orders[0] == orders[1] == orders[2]
    # Of the 75 held-out rows of sources that are trained on: evenly, each once, in no order.
    assert measured[0] == measured[1] == measured[2]
    evenly = [5 + 20 * (i * 75 // 50) for i in range(50)]
    assert sorted(measured[0]) == evenly != measured[0]
    order = np.array(orders[0])
    assert not (order % 10 == 0).any()
    assert not (order % 20 == 5).any()
    assert not (order >= 1500).any()
    assert abs((order < 500).sum() - 850) <= 1
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.1
    # After two epochs of the one each of its rows has come twice, and some of the other's once.
    order = np.array(numbers_in(an_epoch(out, 1275 * 5, inputs["prepared"])))
    _, times = np.unique(order[order < 500], return_counts=True)
    assert len(times) == 425
    assert abs(times - 10).max() <= 1
    _, times = np.unique(order[order >= 500], return_counts=True)
    assert len(times) == 850
    assert set(times) <= {1, 2, 3, 4}
    none = MixConfig({"often": 0.0, "seldom": 0.0, "never": 0.0})
    with pytest.raises(UserError, match="leave no training rows"):
        run_mix_image(none, inputs, Folder(tmp_path / "none").context)
    with pytest.raises(UserError, match="weight of source often: -1"):
        MixConfig({"often": -1.0})


def test_pictures_held_out_among_the_pairs_leave_the_image_corpus(tmp_path):
    images = [str(i).encode() for i in range(100)]
    split = ["valid"] * 2 + ["train"] * 96 + ["valid"] * 2
    ours = prepared(tmp_path / "i", image=images, source=["s"] * 100, split=split)
    pairs = prepared(tmp_path / "p", image=images[:10], split=["test"] * 4 + ["train"] * 6)
    out = Folder(tmp_path / "out")
    metrics = run_mix_image(MixConfig({}), {"prepared": ours, "pair": pairs}, out.context)
    assert metrics["held_out"] == {"duplicates": 2, "near_duplicates": 0}
    assert metrics["rows"] == 94
    assert left_out_rows(Mixture(out.path)).tolist() == [0, 1]
    assert sorted(numbers_in(an_epoch(out, 94, ours))) == list(range(4, 98))
    valid = measured_on(out)["image"].to_pylist()
    assert sorted(valid) == images[98:]  # what the pairs test by is not measured on either


def test_pictures_that_look_like_held_out_ones_leave_too(tmp_path):
    looks = [bytes([n]) * 8 + bytes([n]) * 48 for n in (0, 255, 90)]
    near = bytes([0] * 7 + [1]) + bytes(48)
    far = bytes([0] * 8) + bytes([200] * 48)  # of other colours
    images = [str(i).encode() for i in range(5)]
    columns = {"image": images, "look": [looks[1], near, far, None, looks[2]]}
    ours = prepared(tmp_path / "i", **columns, split=["train"] * 5)
    columns = {"image": [b"x", b"y", b"4"], "look": [looks[0], looks[1], None]}
    pairs = prepared(tmp_path / "p", **columns, split=["test", "train", "valid"])
    out = Folder(tmp_path / "out")
    metrics = run_mix_image(MixConfig({}), {"prepared": ours, "pair": pairs}, out.context)
    assert metrics["held_out"] == {"duplicates": 1, "near_duplicates": 1}
    assert left_out_rows(Mixture(out.path)).tolist() == [1, 4]


def test_pictures_tested_among_the_images_leave_the_pairs(tmp_path):
    images = [str(i).encode() for i in range(20)]
    pairs = prepared(
        tmp_path / "p",
        image=images,
        captions=[["c"]] * 20,
        group=[str(i) for i in range(20)],
        source=["s"] * 20,
        split=["train"] * 20,
    )
    other = prepared(tmp_path / "i", image=images[:10], split=["test"] * 4 + ["valid"] * 6)
    out = Folder(tmp_path / "out")
    metrics = run_mix_pair(MixConfig({}), {"prepared": pairs, "image": other}, out.context)
    assert metrics["rows"] == 16
    assert Mixture(out.path).mixture() == MixtureIndex.of(
        {
            "format": 1,
            "columns": ["image", "captions", "group"],
            "sources": [{"name": "s", "weight": 1.0, "rows": 16}],
        }
    )


def test_a_mixture_of_pictures_copies_none(tmp_path):
    images = [bytes([i % 251]) * 1000 for i in range(2000)]
    ours = prepared(tmp_path / "i", image=images, split=["train"] * 1990 + ["valid"] * 10)
    out = Folder(tmp_path / "out")
    run_mix_image(MixConfig({}), {"prepared": ours}, out.context)
    assert sum(map(len, out.files().values())) < 30_000
    assert not Mixture(out.path).has_index


@pytest.mark.parametrize(
    ("splits", "groups", "told"),
    [
        (["train"] * 5 + ["test"] * 2, 7, r"7 can be used, of 7 pictures; 5 are left"),
        (["train"] * 20, 1, r"20 can be used, of 1 pictures; 20 are left"),
        (["train"] + ["test"] * 20, 21, r"21 can be used, of 21 pictures; 1 are left"),
        (["train"] * 20, 2, ""),
    ],
)
def test_too_few_rows_of_ones_own_are_refused(tmp_path, splits, groups, told):
    images = [str(i).encode() for i in range(len(splits))]
    group = [str(i % groups) for i in range(len(splits))]
    ours = prepared(tmp_path / "i", image=images, group=group, split=splits)
    config, out = MixConfig({}, own="--image.source"), Folder(tmp_path / "out")
    if not told:
        assert run_mix_image(config, {"prepared": ours}, out.context)["rows"] == 20
        return
    with pytest.raises(UserError, match=f"--image.source: too few rows to train on: {told}"):
        run_mix_image(config, {"prepared": ours}, out.context)


def test_text_is_packed_without_losing_a_token(tmp_path):
    words = [f"w{i}" for i in range(50)]
    tokenizer = word_tokenizer(tmp_path / "tokenizer", words)
    vocabulary = {word: number + 4 for number, word in enumerate(words)}
    lengths = [3, 30, 1, 7, 12]
    texts = [" ".join(words[i % 50] for i in range(n)) for n in lengths]
    held_out = "w49 " * 40
    inputs = {
        "prepared": prepared(
            tmp_path / "prepared",
            text=[*texts, held_out, *(["w48 " * 9] * 40)],
            source=["s"] * 46,
            split=["train"] * 5 + ["test"] + ["valid"] * 40,
        ),
        "tokenizer": tokenizer,
    }
    out = Folder(tmp_path / "out")
    metrics = run_mix_text(MixConfig({}, sequence_length=8, valid_rows=3), inputs, out.context)
    ids = np.array(an_epoch(out, metrics["rows"])["ids"].to_pylist())
    assert ids.shape == (metrics["rows"], 8)
    assert (ids[:, 0] == 2).all()
    assert (ids[:, 1:] == 3).sum() == len(texts)
    assert (ids[:, 1:] > 3).sum() == sum(lengths)
    assert vocabulary["w49"] not in ids
    assert vocabulary["w48"] not in ids
    measured = np.array(measured_on(out)["ids"].to_pylist())
    assert len(measured) == metrics["valid_rows"] == 3
    assert measured.tolist() == [[2, *[vocabulary["w48"]] * 7], *measured[1:].tolist()]
    assert set(measured.ravel().tolist()) == {2, 3, vocabulary["w48"]}
    pairs = prepared(
        tmp_path / "pair", captions=[[texts[1].upper()], [texts[0]]], split=["test", "train"]
    )
    out = Folder(tmp_path / "without")
    metrics = run_mix_text(MixConfig({}, sequence_length=8), {**inputs, "pair": pairs}, out.context)
    assert metrics["held_out"] == {"captions": 1}
    ids = np.array(an_epoch(out, metrics["rows"])["ids"].to_pylist())
    assert (ids[:, 1:] > 3).sum() == sum(lengths) - lengths[1]


def word_tokenizer(folder, words):
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return Folder(folder)


def test_captions_of_pairs_are_mixed_as_text(tmp_path):
    rows = [
        {"captions": ["a", "b"], "source": "own", "split": "train"},
        {"captions": ["c"], "source": "other", "split": "train"},
        {"captions": ["held"], "source": "own", "split": "test"},
        {"captions": ["d", "d"], "source": "other", "split": "valid"},
    ]
    tokenizer = word_tokenizer(tmp_path / "tokenizer", ["a", "b", "c", "d", "held"])
    table = pa.Table.from_pylist(rows)
    given = prepared(tmp_path / "p", **{n: table[n].to_pylist() for n in table.column_names})
    inputs, out = {"prepared": given, "tokenizer": tokenizer}, Folder(tmp_path / "out")
    metrics = run_mix_text(MixConfig({"other": 3.0}, sequence_length=9), inputs, out.context)
    assert metrics["sources"] == {
        "own": {"available": 2, "weight": 1.0, "rows": 2, "tokens": 4, "share": 0.4},
        "other": {"available": 1, "weight": 3.0, "rows": 3, "tokens": 6, "share": 0.6},
    }
    assert (metrics["rows"], metrics["tokens"]) == (4, 36)
    ids = [row["ids"] for row in out.training()]
    assert ids == [[2, 4, 3, 5, 3, 0, 0, 0, 0], [2, 6, 3, 0, 0, 0, 0, 0, 0]]
    assert measured_on(out)["ids"].to_pylist() == [[2, 7, 3, 7, 3, 0, 0, 0, 0]]
    counted = [row[1] for row in an_epoch(out, 400)["ids"].to_pylist()]
    assert abs(counted.count(6) - 300) <= 2
    without = run_mix_text(MixConfig({"other": 0.0}), inputs, Folder(tmp_path / "b").context)
    assert without["valid_rows"] == 0
    none = MixConfig({"own": 0.0, "other": 0.0})
    with pytest.raises(UserError, match="text: the weights .* leave no training rows"):
        run_mix_text(none, inputs, Folder(tmp_path / "c").context)


def test_shards_of_text_that_are_there_are_not_made_again(tmp_path, ray_local):
    words = [f"w{n}" for n in range(40)]
    texts = [" ".join(words[n % 40 :]) for n in range(1000)]
    names = ["a"] * 700 + ["b"] * 300
    given = prepared(tmp_path / "p", text=texts, source=names, split=["train"] * 1000)
    inputs = {"prepared": given, "tokenizer": word_tokenizer(tmp_path / "tokenizer", words)}
    out = Folder(tmp_path / "out")
    context = out.context
    first = run_mix_text(MixConfig({}), inputs, context)
    files, made = out.files(), dict(context.made_files)
    assert set(made) == {n for n in files if n.startswith("shards/")}
    assert len(made) == 4
    # An attempt that ended before the index was written, and one that lost a shard.
    (out.path / "index.json").unlink()
    lost = sorted(made)[1]
    (out.path / lost).unlink()
    times = {name: (out.path / name).stat().st_mtime_ns for name in made if name != lost}
    context.made_files.clear()
    assert run_mix_text(MixConfig({}), inputs, context) == first
    assert out.files() == files
    assert context.made_files == made
    assert times == {name: (out.path / name).stat().st_mtime_ns for name in times}


def test_the_valid_part_is_of_sources_that_are_trained_on(tmp_path):
    rows = {"image": [b"a", b"b", b"c"], "source": ["x", "y", "x"]}
    given = prepared(tmp_path / "p", **rows, split=["valid", "valid", "train"])
    read = PreparedRows(given.path)
    assert sorted(valid_rows(read, ["image"], {}, 9, 0)["image"].to_pylist()) == [b"a", b"b"]
    assert valid_rows(read, ["image"], {"x": 0.0}, 9, 0)["image"].to_pylist() == [b"b"]
    assert len(valid_rows(read, ["image"], {}, 1, 0)) == 1
    assert len(valid_rows(read, ["image"], {"x": 0.0, "y": 0.0}, 9, 0)) == 0


def test_the_valid_part_may_be_of_more_bytes_than_a_column_holds(tmp_path):
    rows = {"image": [b"%d" % i for i in range(200)], "split": ["valid"] * 200}
    read = PreparedRows(rows_in(tmp_path, rows))
    of_one = valid_rows(read, ["image"], {}, 150, 3)
    # More than 2 GB would be too much here: what joins a whole column is not called.
    assert len(of_one["image"].chunks) == 150
    metrics = write_valid(Place.of(tmp_path / "mixed"), of_one, 64)
    assert metrics == {"valid_rows": 150}
    valid = Rows(Place.of(tmp_path / "mixed" / "valid"))
    (shard,) = valid.index().shards
    tables = list(read_columns(valid.place, shard, ["image"]))
    assert pa.concat_tables(tables)["image"].to_pylist() == of_one["image"].to_pylist()
    assert sorted(of_one["image"].to_pylist()) != of_one["image"].to_pylist()


def test_each_row_group_of_the_valid_part_is_read_once(tmp_path, monkeypatch):
    count, groups = 1000, []
    original = ShardReader.batch

    def counted(self, file, group, columns):
        groups.append((file, group))
        return original(self, file, group, columns)

    monkeypatch.setattr(ShardReader, "batch", counted)
    rows = {"key": [f"{i:04d}" for i in range(count)], "split": ["valid", "test"] * (count // 2)}
    read = PreparedRows(rows_in(tmp_path, rows))
    found = valid_rows(read, ["key"], {}, 100, 0)["key"].to_pylist()
    assert sorted(found) == [f"{2 * (i * 500 // 100):04d}" for i in range(100)]
    assert groups == [(0, group) for group in range(-(-count // 64))]


THREADS = """
import os
import pyarrow as pa
from tokenizers import Tokenizer, models, pre_tokenizers
from momo_platform.data.config import MixConfig
from momo_platform.data.packing import Packer
tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, "[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
threads = lambda: len(os.listdir("/proc/self/task"))
before = threads()
tables = list(Packer(tokenizer, MixConfig({})).pack([["a a a"] * 500] * 4))
assert sum(map(len, tables)), "nothing was packed"
packed = threads()
assert "TOKENIZERS_PARALLELISM" not in os.environ
tokenizer.encode_batch(["a a a"] * 500)
print(packed - before, threads() - before)
"""


def test_packing_takes_one_core():
    environment = {k: v for k, v in os.environ.items() if k != "TOKENIZERS_PARALLELISM"}
    environment |= {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    environment["RAYON_NUM_THREADS"] = "3"
    command = [sys.executable, "-c", THREADS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout == "0 3\n", done.stderr
