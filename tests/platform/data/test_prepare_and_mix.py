"""Preparing and mixing on a real Ray: what is kept, what is quarantined, what never leaks."""

import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from momo_platform.data.mix import MixConfig, shuffled
from momo_platform.data.prepare import DATA
from momo_platform.data.shards import ShardDataset
from momo_platform.data.sources import SourceConfig
from momo_platform.data.valid_part import valid_rows
from momo_platform.stages import UserError
from pipelines.modalities.image import run_mix_image
from pipelines.modalities.pair import run_mix_pair
from pipelines.modalities.text import run_mix_text


@dataclass
class Folder:
    """As much of an artifact and a context as the stages use."""

    path: Path
    messages: list[dict] = field(default_factory=list)

    @property
    def output(self):
        self.path.mkdir(parents=True, exist_ok=True)
        return self.path

    def progress(self, message):
        self.messages.append(message)


def picture(number, size=(40, 30)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (number % 256, number // 256, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def table(folder, name=DATA):
    return pq.read_table(folder.path / name).to_pylist()


def sources(*paths):
    return tuple(SourceConfig(f"s{i}", str(p)) for i, p in enumerate(paths))


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prepared(folder, **columns):
    folder.mkdir()
    pq.write_table(pa.table(columns), folder / DATA, row_group_size=100)
    return Folder(folder)


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
        metrics = run(config, inputs, out)
        dataset = ShardDataset(out.path / "shards")
        orders.append([int(x) for x in dataset.read(np.arange(len(dataset)))["image"].to_pylist()])
        assert metrics["rows"] == len(dataset)
        valid = ShardDataset(out.path / "valid").read(np.arange(metrics["valid_rows"]))
        measured.append([int(x) for x in valid["image"].to_pylist()])
    assert orders[0] == orders[1] == orders[2]
    # Of the 75 held-out rows of sources that are trained on: evenly, each once, in no order.
    assert measured[0] == measured[1] == measured[2]
    evenly = [5 + 20 * (i * 75 // 50) for i in range(50)]
    assert sorted(measured[0]) == evenly != measured[0]
    order = np.array(orders[0])
    assert not (order % 10 == 0).any()
    assert not (order % 20 == 5).any()
    assert not (order >= 1500).any()
    numbers, times = np.unique(order[order < 500], return_counts=True)
    assert len(numbers) == 425
    assert (times == 2).all()
    assert 380 < ((order >= 500) & (order < 1500)).sum() < 520
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.1
    none = MixConfig({"often": 0.0, "seldom": 0.0, "never": 0.0})
    with pytest.raises(UserError, match="leave no training rows"):
        run_mix_image(none, inputs, Folder(tmp_path / "none"))
    with pytest.raises(UserError, match="weight of source often: -1"):
        MixConfig({"often": -1.0})


def test_pictures_held_out_among_the_pairs_leave_the_image_corpus(tmp_path):
    images = [str(i).encode() for i in range(100)]
    split = ["valid"] * 2 + ["train"] * 96 + ["valid"] * 2
    ours = prepared(tmp_path / "i", image=images, source=["s"] * 100, split=split)
    pairs = prepared(tmp_path / "p", image=images[:10], split=["test"] * 4 + ["train"] * 6)
    out = Folder(tmp_path / "out")
    run_mix_image(MixConfig({}), {"prepared": ours, "pair": pairs}, out)
    dataset = ShardDataset(out.path / "shards")
    kept = dataset.read(np.arange(len(dataset)))["image"].to_pylist()
    assert sorted(kept) == sorted(images[4:98])
    valid = ShardDataset(out.path / "valid").read(np.arange(2))["image"].to_pylist()
    assert sorted(valid) == images[98:]  # what the pairs test by is not measured on either


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
    metrics = run_mix_pair(MixConfig({}), {"prepared": pairs, "image": other}, out)
    assert metrics["rows"] == 16


def test_large_shards_are_cut_by_bytes(tmp_path):
    images = [bytes([i % 251]) * 1000 for i in range(2000)]
    inputs = {
        "prepared": prepared(
            tmp_path / "prepared", image=images, source=["s"] * 2000, split=["train"] * 2000
        )
    }
    out = Folder(tmp_path / "out")
    run_mix_image(MixConfig({}, shard_bytes=600_000), inputs, out)
    index = json.loads((out.path / "shards" / "index.json").read_text())
    assert len(index["shards"]) > 2
    assert index["rows"] == sum(s["rows"] for s in index["shards"]) == 2000


def test_shuffling_through_buckets_on_disk_keeps_every_row():
    tables = (pa.table({"n": np.arange(i, i + 100)}) for i in range(0, 1000, 100))
    generator = np.random.Generator(np.random.Philox(1))
    parts = list(shuffled(tables, 3 * 256 * 2**20, generator))
    assert len(parts) == 3
    assert sorted(n for part in parts for n in part["n"].to_pylist()) == list(range(1000))


def test_text_is_packed_without_losing_a_token(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = [f"w{i}" for i in range(50)]
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    (tmp_path / "tokenizer").mkdir()
    tokenizer.save(str(tmp_path / "tokenizer" / "tokenizer.json"))
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
        "tokenizer": Folder(tmp_path / "tokenizer"),
    }
    out = Folder(tmp_path / "out")
    metrics = run_mix_text(MixConfig({}, sequence_length=8, valid_rows=3), inputs, out)
    dataset = ShardDataset(out.path / "shards")
    ids = np.array(dataset.read(np.arange(len(dataset)))["ids"].to_pylist())
    assert ids.shape == (metrics["rows"], 8)
    assert (ids[:, 0] == 2).all()
    assert (ids[:, 1:] == 3).sum() == len(texts)
    assert (ids[:, 1:] > 3).sum() == sum(lengths)
    assert vocabulary["w49"] not in ids
    assert vocabulary["w48"] not in ids
    valid = ShardDataset(out.path / "valid")
    assert len(valid) == metrics["valid_rows"] == 3
    measured = np.array(valid.read(np.arange(3))["ids"].to_pylist())
    assert measured.tolist() == [[2, *[vocabulary["w48"]] * 7], *measured[1:].tolist()]
    assert set(measured.ravel().tolist()) == {2, 3, vocabulary["w48"]}
    pairs = prepared(
        tmp_path / "pair", captions=[[texts[1].upper()], [texts[0]]], split=["test", "train"]
    )
    out = Folder(tmp_path / "without")
    metrics = run_mix_text(MixConfig({}, sequence_length=8), {**inputs, "pair": pairs}, out)
    assert metrics["held_out"] == {"captions": 1}
    dataset = ShardDataset(out.path / "shards")
    ids = np.array(dataset.read(np.arange(len(dataset)))["ids"].to_pylist())
    assert (ids[:, 1:] > 3).sum() == sum(lengths) - lengths[1]


def test_captions_of_pairs_are_mixed_as_text(tmp_path):
    from momo_platform.data.mix import _documents, _text_column, _training

    rows = [
        {"captions": ["a", "b"], "source": "own", "split": "train"},
        {"captions": ["held out"], "source": "own", "split": "test"},
        {"captions": ["c"], "source": "other", "split": "train"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    path = tmp_path / "pairs.parquet"
    (table,) = _training(path, [_text_column(path)])
    assert _documents(table).to_pylist() == [
        {"text": "a", "source": "own"},
        {"text": "b", "source": "own"},
        {"text": "c", "source": "other"},
    ]
    columns = ["captions", "source"]
    assert len(_documents(valid_rows(path, columns, {}, 9, 0))) == 0
    rows.append({"captions": ["d", "e"], "source": "other", "split": "valid"})
    pq.write_table(pa.Table.from_pylist(rows), path)
    assert _documents(valid_rows(path, columns, {}, 9, 0))["text"].to_pylist() == ["d", "e"]
    assert len(valid_rows(path, columns, {"other": 0.0}, 9, 0)) == 0
