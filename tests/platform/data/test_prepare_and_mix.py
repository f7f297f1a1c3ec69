"""Preparing and mixing on a real Ray: what is kept, what is quarantined, what never leaks."""

import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from momo_platform.data.digests import FILES
from momo_platform.data.mix import MixConfig, shuffled
from momo_platform.data.prepare import DATA, QUARANTINE, PrepareConfig
from momo_platform.data.shards import ShardDataset
from momo_platform.data.sources import SourceConfig
from momo_platform.data.valid_part import valid_rows
from momo_platform.stages import UserError
from pipelines.modalities.image import run_mix_image, run_prepare_image
from pipelines.modalities.pair import run_mix_pair, run_prepare_pair
from pipelines.modalities.text import run_mix_text, run_prepare_text


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


def test_broken_pictures_among_good_ones_are_quarantined(ray_local, tmp_path):
    corpus = tmp_path / "in"
    corpus.mkdir()
    for i in range(5):
        (corpus / f"{i}.png").write_bytes(picture(i))
    (corpus / "again.png").write_bytes(picture(3))
    (corpus / "cut.png").write_bytes(picture(9)[:60])
    (corpus / "nothing.png").write_bytes(b"")
    (corpus / "words.jpg").write_text("not a picture")
    out = Folder(tmp_path / "out")
    metrics = run_prepare_image(PrepareConfig(sources(corpus)), {}, out)
    assert {k: metrics[k] for k in ("read", "kept", "quarantined", "duplicates")} == {
        "read": 9,
        "kept": 5,
        "quarantined": 3,
        "duplicates": 1,
    }
    reasons = {row["key"]: row["reason"] for row in table(out, QUARANTINE)}
    assert reasons.keys() == {"cut.png", "nothing.png", "words.jpg"}
    assert "empty" in reasons["nothing.png"]
    files = {row["path"]: row["sha256"] for row in table(out, FILES)}
    assert files["0.png"] == hashlib.sha256(picture(0)).hexdigest()
    assert files.keys() == {f"{i}.png" for i in range(5)} | {
        *("again.png", "cut.png", "nothing.png", "words.jpg")
    }
    strict = PrepareConfig(sources(corpus), max_bad_fraction=0.1)
    with pytest.raises(UserError, match=r"image: 3 of 9 rows.*--image.max-bad-fraction"):
        run_prepare_image(strict, {}, Folder(tmp_path / "strict"))


def test_pairs_keep_their_fields_and_say_what_is_wrong_with_the_rest(ray_local, tmp_path):
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "b.png").write_bytes(picture(2))
    rows = [
        {"image": "a.png", "captions": ["one", " two "], "label": 0, "group": "g", "split": "test"},
        {"image": "b.png", "caption": "<b>three</b>"},
        {"image": "b.png", "caption": ""},
        {"image": "none.png", "caption": "four"},
        {"image": "other.png", "caption": "five"},
        {"image": "http://localhost/x.png", "caption": "six"},
        {"image": "", "caption": "seven"},
        {"caption": "eight"},
        {"image": "b.png", "caption": "half a pair \ud800"},
    ]
    out = Folder(tmp_path / "out")
    config = PrepareConfig(
        sources(write_jsonl(tmp_path / "pairs.jsonl", rows)), max_bad_fraction=0.9
    )
    metrics = run_prepare_pair(config, {}, out)
    assert {row["path"] for row in table(out, FILES)} == {"pairs.jsonl", "a.png", "b.png"}
    first, second = table(out)
    assert first["captions"] == ["one", "two"]
    assert (first["group"], first["split"], first["label"]) == ("g", "test", "0")
    assert second["captions"] == ["three"]
    assert (second["split"], second["label"]) == ("train", "")
    assert metrics["quarantined"] == 7
    assert metrics["reasons"]["the picture does not exist"] == 2  # counted as one reason
    assert metrics["reasons"]["the line is not UTF-8"] == 1


def test_embedded_pictures_are_read_in_the_tasks(ray_local, tmp_path):
    count = 700
    raw = [{"bytes": picture(i), "path": None} for i in range(count)]
    raw[5] = {"bytes": None, "path": "beside.png"}
    raw[6] = {"bytes": None, "path": None}
    (tmp_path / "beside.png").write_bytes(picture(9000))
    captions = [f"number {i}" for i in range(count)]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"image": raw, "caption": captions}), path, row_group_size=90)
    out = Folder(tmp_path / "out")
    metrics = run_prepare_pair(PrepareConfig(sources(path)), {}, out)
    assert (metrics["kept"], metrics["quarantined"]) == (count - 1, 1)
    for row in table(out):
        number = int(row["captions"][0].split()[1])
        colour = 9000 if number == 5 else number
        pixel = Image.open(io.BytesIO(row["image"])).getpixel((0, 0))
        assert pixel == (colour % 256, colour // 256, 7)


def test_equal_sources_give_equal_bytes_wherever_they_lie(ray_local, tmp_path):
    outputs = []
    for place in ("one", "two"):
        corpus = tmp_path / place
        corpus.mkdir()
        for i in range(1300):
            (corpus / f"{i}.png").write_bytes(picture(i, (4, 4)))
        out = Folder(tmp_path / f"out-{place}")
        run_prepare_image(PrepareConfig(sources(corpus), held_out=0.1), {}, out)
        outputs.append((out.path / DATA).read_bytes())
    assert outputs[0] == outputs[1]
    splits = [row["split"] for row in table(out)]
    assert 60 < splits.count("test") < 200


def test_a_training_row_with_a_held_out_picture_goes(ray_local, tmp_path):
    for name in ("a.png", "b.png", "z.png"):
        (tmp_path / name).write_bytes(picture(2 if name == "z.png" else 1))
    rows = [
        {"image": "a.png", "caption": "seen", "split": "train"},
        {"image": "b.png", "caption": "held out", "split": "test"},
        {"image": "z.png", "caption": "other", "split": "train"},
    ]
    out = Folder(tmp_path / "out")
    source = sources(write_jsonl(tmp_path / "pairs.jsonl", rows))
    run_prepare_pair(PrepareConfig(source), {}, out)
    assert [row["captions"] for row in table(out)] == [["held out"], ["other"]]


def test_text_streams_with_line_numbers_and_splits(ray_local, tmp_path):
    corpus = tmp_path / "text"
    corpus.mkdir()
    lines = [f"document number {i} of a long file".encode() for i in range(9000)]
    lines[10] = b"caf\xe9 is not UTF-8 in this line"
    lines[11] = b"short"
    (corpus / "long.txt").write_bytes(b"\r\n".join(lines))
    rows = [{"text": "a document that is held out", "split": "test"}, {"other": 1}]
    write_jsonl(corpus / "rows.jsonl", rows)
    out = Folder(tmp_path / "out")
    metrics = run_prepare_text(PrepareConfig(sources(corpus)), {}, out)
    assert (metrics["read"], metrics["kept"], metrics["quarantined"]) == (9002, 8999, 3)
    assert [(r["key"], r["reason"]) for r in table(out, QUARANTINE)] == [
        ("long.txt:11", "the line is not UTF-8"),
        ("long.txt:12", "shorter than 20 characters"),
        ("rows.jsonl:2", "the row has no text"),
    ]
    kept = table(out)
    assert kept[-2]["text"] == "document number 8999 of a long file"
    assert [r["split"] for r in kept].count("test") == 1
    divided = Folder(tmp_path / "divided")
    run_prepare_text(PrepareConfig(sources(corpus), held_out=None), {}, divided)
    splits = [r["split"] for r in table(divided)]
    assert 800 < splits.count("test") < 1000  # a tenth, by the documents' hash
    assert 380 < splits.count("valid") < 520


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
