"""What a survey that does not see all rows takes their number to be, and how they are divided."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from preparing import Folder, Given, as_given, sources, with_schema, write_jsonl

from momo_platform.data import buckets
from momo_platform.data.config import Kind, PrepareConfig, SourceConfig
from momo_platform.data.listers import ListPictures
from momo_platform.data.parts import Job
from momo_platform.data.prepare import prepare
from momo_platform.data.rows import IMAGE_SCHEMA, TEXT_SCHEMA, PrepareImages
from momo_platform.data.survey import survey
from momo_platform.stages.storage.place import Place
from pipelines.modalities import IMAGE, TEXT


def noise(number, side=16):
    found = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(found).save(buffer, "PNG")
    return buffer.getvalue()


def parquets(folder, files, rows):
    folder.mkdir()
    for file in range(files):
        raw = [noise(file * rows + number) for number in range(rows)]
        pq.write_table(pa.table({"image": raw}), folder / f"{file:03d}.parquet")
    return folder


def pictures(folder, count):
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:05d}.png").write_bytes(noise(10_000 + number))
    return folder


def table(folder, count):
    pictures(folder, count)
    write_jsonl(folder / "t.jsonl", [{"image": f"{n:05d}.png"} for n in range(count)])
    return folder


def tars(folder, files, rows):
    folder.mkdir()
    for file in range(files):
        with tarfile.open(folder / f"{file:03d}.tar", "w") as tar:
            for number in range(rows):
                raw = noise(20_000 + file * rows + number)
                info = tarfile.TarInfo(f"{number:05d}.png")
                info.size = len(raw)
                tar.addfile(info, io.BytesIO(raw))
    return folder


CORPORA = {
    "tars": (lambda d: (tars(d / "t", 6, 50),), 300),
    "files larger than the survey": (lambda d: (parquets(d / "p", 3, 150),), 450),
    "a folder, then tars": (lambda d: (pictures(d / "f", 130), tars(d / "t", 4, 50)), 330),
    "a table, then tars": (lambda d: (table(d / "n", 99), tars(d / "t", 4, 50)), 299),
    "tars, then files": (lambda d: (tars(d / "t", 4, 50), parquets(d / "p", 2, 90)), 380),
}


@pytest.mark.parametrize("corpus", CORPORA)
def test_the_number_of_rows_is_estimated_for_each_source(tmp_path, corpus):
    make, rows = CORPORA[corpus]
    config = PrepareConfig(sources(*make(tmp_path)), held_out=None, bucket_bytes=100_000)
    mapper, out = PrepareImages(config.image, False), Folder(tmp_path / "out")
    options = {"near_bits": -1, "surveyed": 100}
    context, lister = out.context, ListPictures()
    prepare(config, {}, context, IMAGE.kind, lister, mapper, IMAGE_SCHEMA, **options)
    (plan,) = (json.loads(path.read_text()) for path in context.parts.folder.rglob("plan.json"))
    assert plan["rows"] == pytest.approx(rows, rel=0.1)
    share = plan["division"]["test_below"] / 2**64
    assert share == pytest.approx(0.2, rel=0.1)  # of so few rows
    whole = sum(shard.size for shard in out.index().shards)
    assert max(shard.size for shard in out.index().shards) < 150_000 < whole


class Unknown(Given):
    """Rows of which no size is known, nor how many there are."""


def job_of(folder, rows, surveyed, bucket_bytes=2**20):
    config = PrepareConfig((SourceConfig("s", ""),), held_out=None)
    given = with_schema(rows, TEXT_SCHEMA)
    parts, output = Place(str(folder / "parts")), Place(str(folder / "output"))
    facts = (config, {"s": ""}, TEXT.kind, Unknown(given), as_given, TEXT_SCHEMA, None)
    return Job(*facts, bucket_bytes, 64, True, parts, output, surveyed)


def test_there_are_always_more_rows_than_a_survey_that_ends_before(tmp_path):
    rows = [{"source": "s", "key": str(n), "text": f"text {n}"} for n in range(20)]
    assert survey(job_of(tmp_path / "a", rows, 20)).rows == 20
    plan = survey(job_of(tmp_path / "b", rows, 19))
    assert plan.rows > 19
    assert not plan.listed


@pytest.mark.parametrize(
    "sizes, bucket_bytes, edges",
    [
        ([10] * 16, 40, [0, 4, 8, 12, 16]),
        ([10] * 16, 1000, [0, 16]),
        ([0] * 4, 10, [0, 4]),
        ([0, 0, 90, 0, 5, 5], 10, [0, 3, 6]),
        ([5, 0, 0, 0, 0, 5], 5, [0, 1, 6]),
    ],
)
def test_neighbours_are_merged_into_buckets(sizes, bucket_bytes, edges):
    assert buckets.merged(np.array(sizes), bucket_bytes).tolist() == edges


def test_ranges_are_found_in_any_number_of_blocks(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    objects = {f"map/{part}": part % 3 for part in range(9)}
    sizes = {part: generator.integers(0, 9, (count, 16)) for part, count in objects.items()}
    expected = None
    for held in (2**26, 200):
        monkeypatch.setattr(buckets, "_BLOCK_BYTES", held)
        parts = Place(str(tmp_path / str(held)))
        for part, some in sizes.items():
            if len(some):
                buckets.write_sizes(parts, part, [*some])
        found = buckets.write_ranges(parts, objects, 16, 100)
        ranges = [buckets.read_ranges(parts, number) for number in range(len(found))]
        assert expected in (None, (found, ranges))
        expected = found, ranges
    whole = np.concatenate([*sizes.values()])
    assert len(found) == -(-whole.sum() // 100)
    for (names, starts, stops), size in zip(ranges, found, strict=True):
        assert sum(stops) - sum(starts) == size
        assert names == [f"map/{p}.{n}.rows" for p in range(9) for n in range(p % 3)]
    assert ranges[0][1] == [0] * 9
    assert ranges[-1][2] == whole.sum(axis=1).tolist()


def test_a_wrong_estimate_makes_no_large_bucket(tmp_path):
    """Nothing is known of these rows before they are made, which are much larger than they say."""

    def large(listed):
        rows = [row | {"text": f"{row['text']} " * 2000} for row in listed.to_pylist()]
        return with_schema(rows, TEXT_SCHEMA)

    rows = [
        {"source": "s", "key": str(n), "text": f"number {n:05d}", "split": "train"}
        for n in range(300)
    ]
    kind = Kind("text", "", (), "text")
    out = Folder(tmp_path / "out")
    config = PrepareConfig((SourceConfig("s", ""),), bucket_bytes=1_500_000)
    lister = Given(with_schema(rows, TEXT_SCHEMA))
    prepare(config, {}, out.context, kind, lister, large, TEXT_SCHEMA)
    counts = [shard.rows for shard in out.index().shards]
    assert sum(counts) == 300
    assert max(counts) * 26_000 < 1.5 * 1_500_000
