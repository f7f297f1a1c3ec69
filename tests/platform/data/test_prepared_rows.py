"""Which rows are kept, by a plain model of how it was done in one process; and the same bytes
whatever the order of the tasks is, and where a driver goes on."""

import hashlib
import io
import json
import random
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures_alike import drawing, encoded, reencoded
from preparing import Folder, picture, pour, with_schema, write_jsonl

from momo_platform.data import mapping, prepare, tasks
from momo_platform.data.card import CARD
from momo_platform.data.config import Kind, PrepareConfig, SourceConfig
from momo_platform.data.digests import FILES
from momo_platform.data.listers import ListFiles
from momo_platform.data.listing import ROW_SCHEMA
from momo_platform.data.merge import NEAR, QUARANTINE
from momo_platform.data.rows import (
    IMAGE_SCHEMA,
    TEXT_SCHEMA,
    PrepareFiles,
    PrepareImages,
    file_schema,
)
from momo_platform.data.sources import list_rows
from momo_platform.stages import UserError
from momo_platform.stages.storage.place import Place
from pipelines.modalities import PAIR, TEXT
from pipelines.modalities.image import run_prepare_image
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
    prepared = PrepareImages(config.image, True)(with_schema(listed, schema)).to_pylist()
    expected = OneProcess(prepared)
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


def in_other_orders(seed):
    """`run_tasks` in this process whose tasks come in any order."""

    def run(some, *steps, memory=0):
        generator = random.Random(seed)
        for step in steps:
            some = [*some]
            generator.shuffle(some)
            some = [result for task in some for result in step(json.loads(json.dumps(task)))]
        generator.shuffle(some)
        return iter(some)

    return run


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
        monkeypatch.setattr(prepare, "run_tasks", in_other_orders(seed))
        out = Folder(tmp_path / f"out{seed}")
        metrics = run(config, {}, out.context)
        found.append((out.files(), metrics))
    assert found[0] == found[1] == found[2]
    assert len(out.index().shards) > 2


class Stopped(Exception):
    pass


def stopping_after(results, begun):
    """`run_tasks` whose driver is gone after so many results of the tasks of one step."""

    def run(some, *steps, memory=0):
        for number, result in enumerate(tasks.run_tasks(some, *steps)):
            if steps[-1].func.__name__ == begun and number == results:
                raise Stopped
            yield result

    return run


def written(place):
    """Files of a place, by what tells whether they were written again."""
    files = (path for path in place.folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize("begun, results", [("prepare_rows", 1), ("reduce_rows", 3)])
def test_a_new_driver_goes_on(tmp_path, monkeypatch, begun, results):
    corpus = tmp_path / "in"
    corpus.mkdir()
    for number in range(700):
        (corpus / f"{number}.png").write_bytes(picture(number, (4, 4)))
    source = (SourceConfig("s", str(corpus)),)
    config = PrepareConfig(source, held_out=0.1, bucket_bytes=10_000)
    undisturbed, out = Folder(tmp_path / "undisturbed"), Folder(tmp_path / "out")
    expected = run_prepare_image(config, {}, undisturbed.context)
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "run_tasks", stopping_after(results, begun))
        with pytest.raises(Stopped):
            run_prepare_image(config, {}, out.context)
    before = written(out.context.parts) | written(out.place)
    made = []
    read = PrepareImages.__call__
    monkeypatch.setattr(PrepareImages, "__call__", lambda s, t: made.append(t) or read(s, t))
    assert run_prepare_image(config, {}, out.context) == expected
    after = written(out.context.parts) | written(out.place)
    again = [name for name, facts in before.items() if after[name] != facts]
    assert {name.rpartition("/")[2] for name in again} <= {"ranges.int64", "objects.json"}
    assert len(made) == (0 if begun == "reduce_rows" else 1)  # of three parts
    assert out.files() == undisturbed.files()


def test_shards_that_are_gone_are_made_again(tmp_path):
    out = Folder(tmp_path / "out")
    rows = [{"source": "s", "key": str(n), "text": f"text {n}", "split": "train"} for n in range(9)]
    pour(out.path, with_schema(rows, TEXT_SCHEMA), TEXT.kind)
    before = out.files()
    (out.path / out.index().shards[0].file).unlink()
    pour(out.path, with_schema(rows, TEXT_SCHEMA), TEXT.kind)
    assert out.files() == before


def write_tar(path, count, first):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as file:
        for number in range(first, first + count):
            members = {f"{number}.png": picture(number), f"{number}.txt": f"n {number}".encode()}
            for name, raw in (members | {"README": b"x"} if number == first else members).items():
                info = tarfile.TarInfo(name)
                info.size = len(raw)
                file.addfile(info, io.BytesIO(raw))


def mixed_sources(folder):
    """Shards, a table that holds its pictures in two files, one that names others, a folder."""
    (folder / "tars").mkdir(parents=True)
    for number in range(3):
        write_tar(folder / "tars" / f"{number}.tar", 20, 20 * number)
    (folder / "tars" / "notes.pdf").write_bytes(b"x")
    (folder / "rows").mkdir()
    for number in range(2):
        raw = [{"bytes": picture(100 + 20 * number + i), "path": None} for i in range(20)]
        found = pa.table({"image": raw, "caption": [f"row {i}" for i in range(20)]})
        pq.write_table(found, folder / "rows" / f"{number}.parquet", row_group_size=7)
    (folder / "rows" / "broken.parquet").write_bytes(b"PAR1 no more")
    (folder / "named").mkdir()
    named = []
    for number in range(30):
        (folder / "named" / f"{number}.png").write_bytes(picture(200 + number))
        named.append({"image": f"{number}.png", "caption": f"named {number}"})
    write_jsonl(folder / "named" / "pairs.jsonl", named[:-1])
    return tuple(SourceConfig(n, str(folder / n)) for n in ("tars", "rows", "named"))


def outcome(out, metrics):
    rows = sorted((row["source"], row["key"], row["image"]) for row in out.rows())
    bad = [(row["source"], row["key"]) for row in out.table(QUARANTINE)]
    card = json.loads((out.path / CARD).read_text())
    return rows, bad, metrics, card["ignored"], card["files"]


def prepare_surveyed(config, context, surveyed):
    mapper, lister = PrepareImages(config.image, True), prepare.ListPictures()
    options = {"near_bits": config.near_duplicate_bits, "surveyed": surveyed}
    return prepare.prepare(config, {}, context, PAIR.kind, lister, mapper, IMAGE_SCHEMA, **options)


@pytest.mark.parametrize("surveyed", [1, 25, 75])
def test_what_is_listed_in_tasks_is_the_same(tmp_path, surveyed):
    config = PrepareConfig(mixed_sources(tmp_path / "in"))
    whole, out = Folder(tmp_path / "whole"), Folder(tmp_path / "out")
    expected = outcome(whole, run_prepare_pair(config, {}, whole.context))
    assert len(expected[0]) == 60 + 40 + 29
    assert expected[1] == [("rows", "broken.parquet")]
    assert set(expected[3]) == {"tars", "named"}
    assert expected[3]["named"][0]["examples"] == ["29.png"]
    metrics = prepare_surveyed(config, out.context, surveyed)
    assert outcome(out, metrics) == expected
    assert any("total" in message for message in out.messages)


def test_through_ray_it_is_the_same(ray_local, tmp_path):
    config = PrepareConfig(mixed_sources(tmp_path / "in"), bucket_bytes=300_000)
    here = Folder(tmp_path / "here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "run_tasks", in_other_orders(0))
        metrics = prepare_surveyed(config, here.context, 25)
    out = Folder(tmp_path / "out")
    assert prepare_surveyed(config, out.context, 25) == metrics
    assert out.files() == here.files()


def test_an_error_of_a_task_is_told_as_it_is(ray_local, tmp_path):
    alone = tmp_path / "rows.parquet"
    alone.write_bytes(b"PAR1 no more")
    config = PrepareConfig((SourceConfig("s", str(alone)),))
    with pytest.raises(UserError, match=r"rows.parquet is not readable Parquet"):
        run_prepare_text(config, {}, Folder(tmp_path / "text").context)
    with pytest.raises(UserError, match=r"rows.parquet is not readable Parquet"):
        run_prepare_pair(config, {}, Folder(tmp_path / "pair").context)


def test_into_a_bucket(s3_environment, tmp_path):
    root = f"s3://corpora/prepared?endpoint_override={s3_environment['AWS_ENDPOINT_URL']}"
    there = Place(root) / "prepare-pair"
    config = PrepareConfig(mixed_sources(tmp_path / "in"), bucket_bytes=300_000)
    here, out = Folder(tmp_path / "here"), Folder(tmp_path / "out")
    run_prepare_pair(config, {}, here.context)
    context = out.context
    context.place = there
    run_prepare_pair(config, {}, context)
    index = here.index()
    assert out.index() == index
    files = [*index.shards, *index.held_out]
    assert len(files) > 4
    for file in files:
        raw = (there / context.attempt).read(file.file)
        assert raw == (here.path / file.file).read_bytes()
        sha256 = hashlib.sha256(raw).hexdigest()
        assert context.made_files[file.file] == {"size": len(raw), "sha256": sha256}
        assert not (out.path / file.file).exists()
    assert {FILES, *(file.file for file in files)} == {*context.made_files}
    assert out.table(QUARANTINE) == here.table(QUARANTINE)


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
