"""Which rows are kept, by a plain model of how it was done in one process; and the same bytes
whatever the order of the tasks is, and where a driver goes on."""

import hashlib
import json
import random

import pyarrow as pa
import pytest
from pictures_alike import drawing, encoded, reencoded
from preparing import Folder, in_other_order, picture, with_schema, write_jsonl

from momo_platform.data import mapping, prepare
from momo_platform.data.artifacts import CARD
from momo_platform.data.config import Kind, PrepareConfig, SourceConfig
from momo_platform.data.digests import FILES
from momo_platform.data.listers import ListFiles
from momo_platform.data.listing import ROW_SCHEMA
from momo_platform.data.merge import NEAR, QUARANTINE
from momo_platform.data.rows import (
    PrepareFiles,
    PrepareImages,
    file_schema,
)
from momo_platform.data.sources import list_rows
from pipelines.modalities import PAIR
from pipelines.modalities.pair import run_prepare_pair
from pipelines.modalities.text import run_prepare_text

BITS, TOLERANCE = 4, 16


def looks_like(one, other):
    """How many bits differ, or None where they are not alike."""
    bits = (int.from_bytes(one[:8], "big") ^ int.from_bytes(other[:8], "big")).bit_count()
    apart = max(abs(a - b) for a, b in zip(one[8:], other[8:], strict=True))
    return bits if bits <= BITS and apart <= TOLERANCE else None


class OneProcess:
    """The rows that are kept of all, which pass held-out ones first, by source and key."""

    def __init__(self, rows):
        self.kept, self.near, self.gone = [], [], {"duplicates": 0, "near_duplicates": 0}
        self.seen, self.looks = {}, []
        ranks = {"test": 0, "valid": 1}
        for row in sorted(rows, key=lambda r: (ranks.get(r["split"], 2), r["source"], r["key"])):
            if row["reason"]:
                continue
            if self.repeats(row):
                self.gone["duplicates"] += 1
            elif self.is_near(row):
                self.gone["near_duplicates"] += 1
            else:
                self.kept.append((row["source"], row["key"], row["split"]))

    def repeats(self, row):
        digest, split = hashlib.sha256(row["image"]).digest(), row["split"]
        held_out = self.seen.setdefault(digest, split)
        if split == "train" and held_out != "train":
            return True
        whole = (digest, tuple(row["captions"]))
        if whole in self.seen:
            return True
        self.seen[whole] = split
        return False

    def is_near(self, row):
        if row["look"] is None:
            return False
        if row["split"] != "train":
            self.looks.append((row["look"], row["source"], row["key"]))
            return False
        found = [
            (bits, number)
            for number, (look, _, _) in enumerate(self.looks)
            if (bits := looks_like(row["look"], look)) is not None
        ]
        if not found:
            return False
        bits, number = min(found)
        self.near.append((row["source"], row["key"], *self.looks[number][1:], bits))
        return True


def hostile_corpus(folder):
    """Two sources whose rows repeat and resemble each other in all ways, in and across splits."""
    folder.mkdir()
    generator = random.Random(7)
    names = []
    for seed in range(40):
        for suffix, made in (
            ("png", drawing(seed)),
            ("again.png", drawing(seed)),
            ("jpg", reencoded(drawing(seed), 80)),
            ("other.png", reencoded(drawing(seed), 40)),
        ):
            names.append(f"{seed}.{suffix}")
            (folder / names[-1]).write_bytes(encoded(made))
    for number in range(6):
        names.append(f"plain{number}.png")
        (folder / names[-1]).write_bytes(picture(number))
    found = []
    for name in ("b", "a"):  # not in the order of their names
        rows = []
        for _ in range(240):
            chosen = generator.choice(names)
            split = generator.choice(["train"] * 10 + ["test", "valid"])
            words = [f"caption {generator.randrange(3)}"] * generator.choice([1, 1, 2])
            rows.append({"image": chosen, "captions": words, "split": split})
        rows.append({"image": "gone.png", "caption": "gone"})
        found.append(SourceConfig(name, str(write_jsonl(folder / f"{name}.jsonl", rows))))
    return tuple(found)


@pytest.mark.parametrize("bucket_bytes", [None, 40_000])
def test_the_rows_of_one_process_are_kept_in_any_number_of_buckets(tmp_path, bucket_bytes):
    sources = hostile_corpus(tmp_path / "in")
    config = PrepareConfig(sources, near_duplicate_bits=BITS, bucket_bytes=bucket_bytes)
    schema = ROW_SCHEMA.append(pa.field("reason", pa.string()))
    listed = [row for source in sources for row in list_rows(source, source.uri, PAIR.kind)]
    blocks = PrepareImages(config.image, True)(with_schema(listed, schema))
    expected = OneProcess([row for block in blocks for row in block.to_pylist()])
    assert len(expected.near) > 10
    out = Folder(tmp_path / "out")
    metrics = run_prepare_pair(config, {}, out.context)
    found = [(row["source"], row["key"], row["split"]) for row in out.rows()]
    assert sorted(found) == sorted(expected.kept)
    assert {step: metrics[step] for step in expected.gone} == expected.gone
    near = [tuple(row.values()) for row in out.table(NEAR)]
    assert sorted(near) == sorted(expected.near)
    buckets = {file.file.rpartition("-")[2] for file in out.index().shards}
    assert len(buckets) == 1 if bucket_bytes is None else len(buckets) > 5
    assert {row["split"] for row in out.training()} == {"train"}
    for shard in out.index().shards:
        rows = out.table(shard.file)
        assert {row["source"] for row in rows} == {shard.source}
        assert [r["digest"] for r in rows] == sorted(r["digest"] for r in rows)
        assert rows[0]["digest"] == hashlib.sha256(rows[0]["image"]).digest()[:16]
    assert [shard.source for shard in out.index().shards[:: len(buckets)]] == ["b", "a"]


@pytest.mark.parametrize("kind", ["pair", "text"])
def test_the_order_of_tasks_changes_no_byte(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(mapping, "_HELD_BYTES", 20_000)  # several objects a part
    if kind == "pair":
        run, config = run_prepare_pair, PrepareConfig(hostile_corpus(tmp_path / "in"))
    else:
        (tmp_path / "in").mkdir()
        for name in "abc":
            lines = [f"document {i % 700} is in a file" for i in range(ord(name), 900)]
            (tmp_path / "in" / f"{name}.txt").write_text("\n".join(lines))
        run = run_prepare_text
        config = PrepareConfig((SourceConfig("s", str(tmp_path / "in")),), held_out=None)
    config = PrepareConfig(**vars(config) | {"bucket_bytes": 30_000})
    found = []
    for seed in range(3):
        monkeypatch.setattr(prepare, "run_tasks", in_other_order(seed))
        out = Folder(tmp_path / f"out{seed}")
        metrics = run(config, {}, out.context)
        found.append((out.files(), metrics))
    assert found[0] == found[1] == found[2]
    assert len(out.index().shards) > 2


def read_points(raw):
    if len(raw) % 2:
        return {"reason": f"not a whole number of points: {len(raw)} bytes"}
    return {"points": raw, "length": len(raw) // 2}


def test_files_of_a_kind_of_ones_own(tmp_path):
    corpus = tmp_path / "in"
    corpus.mkdir()
    for number in range(300):
        (corpus / f"{number}.pts").write_bytes(number.to_bytes(2, "big") * 3)
    (corpus / "again.pts").write_bytes((7).to_bytes(2, "big") * 3)
    (corpus / "odd.PTS").write_bytes(b"x")
    (corpus / "notes.txt").write_text("about points")
    kind = Kind("points", "give files", (), "points", measured=("length",))
    schema = file_schema(points=pa.binary(), length=pa.int32())
    config = PrepareConfig((SourceConfig("own", str(corpus)),), held_out=0.1)
    mapper, out = PrepareFiles(read_points, schema), Folder(tmp_path / "out")
    metrics = prepare.prepare(config, {}, out.context, kind, ListFiles(".pts"), mapper, schema)
    assert (metrics["kept"], metrics["duplicates"], metrics["quarantined"]) == (300, 1, 1)
    assert metrics["ignored"] == {"not read: .txt": 1}
    assert out.table(QUARANTINE)[0]["key"] == "odd.PTS"
    assert len(out.held_out()) == 31 + 16  # of the 302 files a tenth, and half as many
    assert {row["length"] for row in out.training()} == {3}
    assert len(out.table(FILES)) == 302
    card = json.loads((out.path / CARD).read_text())
    assert card["histograms"]["length"]["count"] == 300
