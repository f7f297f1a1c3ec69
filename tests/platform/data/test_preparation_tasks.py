"""Tasks of a preparation: what is written is not made again, and where they run changes nothing."""

import hashlib
import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from preparing import Folder, in_other_order, picture, pour, with_schema, write_jsonl

from momo_platform.data import prepare, tasks
from momo_platform.data.artifacts import CARD
from momo_platform.data.config import PrepareConfig, SourceConfig
from momo_platform.data.digests import FILES
from momo_platform.data.merge import QUARANTINE
from momo_platform.data.rows import IMAGE_SCHEMA, TEXT_SCHEMA, PrepareImages
from momo_platform.stages import UserError
from momo_platform.stages.storage.place import Place
from pipelines.modalities import PAIR, TEXT
from pipelines.modalities.image import run_prepare_image
from pipelines.modalities.pair import run_prepare_pair
from pipelines.modalities.text import run_prepare_text


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
    assert {name.rpartition("/")[2] for name in again} <= {"00000000.int64", "objects.json"}
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


@pytest.mark.parametrize("kind, run", [("pair", run_prepare_pair), ("text", run_prepare_text)])
def test_sources_without_rows_are_refused(tmp_path, kind, run):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    config = PrepareConfig((SourceConfig("s", str(empty)),))
    with pytest.raises(UserError, match=f"{kind}: .*empty.jsonl holds no rows; check --{kind}.sou"):
        run(config, {}, Folder(tmp_path / "out").context)


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
    config = PrepareConfig(mixed_sources(tmp_path / "in"), bucket_bytes=30_000)
    here = Folder(tmp_path / "here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "run_tasks", in_other_order(0))
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
    config = PrepareConfig(mixed_sources(tmp_path / "in"), bucket_bytes=30_000)
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
