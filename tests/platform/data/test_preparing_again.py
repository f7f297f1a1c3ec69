"""Preparations that go on after their sources have changed, and names of sources."""

import pytest
from preparing import Folder, picture, pour, sources, with_schema, write_jsonl

from momo_platform.data import prepare
from momo_platform.data.config import PrepareConfig, SourceConfig
from momo_platform.data.reduce import shard_name
from momo_platform.data.rows import TEXT_SCHEMA
from momo_platform.stages import UserError
from pipelines.modalities import TEXT
from pipelines.modalities.image import run_prepare_image


class Stopped(Exception):
    pass


def stop(*given):
    raise Stopped


@pytest.fixture
def interrupted(monkeypatch):
    """Runs a preparation until it has prepared so many parts, or is about to reduce."""

    def run(config, context, parts=None):
        made, real = [], prepare.map_part

        def dies(*given):
            if len(made) == parts:
                raise Stopped
            made.append(given)
            return real(*given)

        with monkeypatch.context() as patch:
            patch.setattr(prepare, "map_part", dies)
            if parts is None:
                patch.setattr(prepare, "reduce_bucket", stop)
            with pytest.raises(Stopped):
                run_prepare_image(config, {}, context)

    return run


def folder_of(path, count):
    path.mkdir()
    for number in range(count):
        (path / f"{number:05d}.png").write_bytes(picture(number, (4, 4)))
    return path


def test_a_source_that_was_moved_is_listed_again(tmp_path, interrupted):
    here, out = folder_of(tmp_path / "a", 600), Folder(tmp_path / "out")
    interrupted(PrepareConfig(sources(here)), out.context, parts=2)
    moved = PrepareConfig(sources(here.rename(tmp_path / "b")))
    metrics = run_prepare_image(moved, {}, out.context)
    assert (metrics["kept"], metrics["quarantined"]) == (600, 0)


def table_of(tmp_path, count):
    """A table that names pictures elsewhere, a tenth of which are there."""
    elsewhere = folder_of(tmp_path / "elsewhere", count // 10)
    (tmp_path / "in").mkdir()
    rows = [{"image": f"{elsewhere}/{number:05d}.png"} for number in range(count)]
    write_jsonl(tmp_path / "in" / "t.jsonl", rows)
    return sources(tmp_path / "in"), elsewhere


def supply(elsewhere, count):
    for number in range(count):
        (elsewhere / f"{number:05d}.png").write_bytes(picture(number, (4, 4)))


def test_after_a_refusal_rows_are_looked_at_again(tmp_path):
    own, elsewhere = table_of(tmp_path, 40)
    (elsewhere / "00005.png").write_bytes(b"damaged")
    config, out = PrepareConfig(own), Folder(tmp_path / "out")
    with pytest.raises(UserError, match="36 of 40|37 of 40"):
        run_prepare_image(config, {}, out.context)
    supply(elsewhere, 40)
    metrics = run_prepare_image(config, {}, out.context)
    assert (metrics["kept"], metrics["quarantined"]) == (40, 0)


@pytest.mark.parametrize("reduced", [False, True])
def test_what_was_not_there_is_looked_for_again(tmp_path, interrupted, monkeypatch, reduced):
    own, elsewhere = table_of(tmp_path, 600)
    supply(elsewhere, 400)
    config, out = PrepareConfig(own, bucket_bytes=100_000), Folder(tmp_path / "out")
    if reduced:
        with monkeypatch.context() as patch:
            patch.setattr(prepare, "merge", stop)
            with pytest.raises(Stopped):
                run_prepare_image(config, {}, out.context)
    else:
        interrupted(config, out.context)
    supply(elsewhere, 600)
    made, read = [], prepare.PrepareImages.__call__
    monkeypatch.setattr(
        prepare.PrepareImages, "__call__", lambda s, t: made.append(t) or read(s, t)
    )
    metrics = run_prepare_image(config, {}, out.context)
    assert (metrics["kept"], metrics["quarantined"]) == (600, 0)
    assert len(made) == 2  # of three parts
    undisturbed = Folder(tmp_path / "undisturbed")
    assert run_prepare_image(config, {}, undisturbed.context) == metrics
    assert out.files() == undisturbed.files()


def test_two_sources_of_one_name_are_refused():
    with pytest.raises(UserError, match="two sources have the name 'x'"):
        PrepareConfig((SourceConfig("x", "a"), SourceConfig("y", "b"), SourceConfig("x", "c")))


def test_any_name_of_a_source_is_a_files(tmp_path):
    names = ["a" * 300, "..", ".", "x\n", "x?", "X", "x", ".hidden", "plain.name-1"]
    rows = [
        {"source": name, "key": "k", "text": f"text of {number}", "split": "train"}
        for number, name in enumerate(names)
    ]
    out = Folder(tmp_path / "out")
    pour(out.path, with_schema(rows, TEXT_SCHEMA), TEXT.kind)
    files = [shard.file for shard in out.index().shards]
    assert len({file.lower() for file in files}) == len(names)
    assert set(files) <= set(out.place.names())
    assert shard_name("plain.name-1", 2) == "shards/plain.name-1-00002.parquet"
