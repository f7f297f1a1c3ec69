"""The order over real processes: resumed, with other numbers of workers, from other readers."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from batches_process import GLOBAL_BATCH, batches
from making_shards import write_folder

HERE = Path(__file__).parent
ROWS = 48 * 70 + 13


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    names = ["a"] * 2500 + ["b"] * (ROWS - 2500)
    table = pa.table({"id": pa.array(range(ROWS), pa.int64()), "source": names})
    write_folder(folder, table, row_group=32, rows_per_shard=700)
    return folder


def in_processes(folder, world, start, stop, how="thread"):
    """Each rank's batches, every rank a process of its own."""
    paths = os.pathsep.join([str(HERE), *(p for p in sys.path if p)])
    workers = [
        subprocess.Popen(
            [sys.executable, str(HERE / "batches_process.py"), str(folder)]
            + [str(n) for n in (world, rank, start, stop)]
            + [how],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": paths},
        )
        for rank in range(world)
    ]
    results = []
    for worker in workers:
        out, _ = worker.communicate(timeout=120)
        assert worker.returncode == 0
        results.append(json.loads(out))
    return results


def as_sets(ranks):
    """Each global batch as a sorted list of (row, epoch, its noise)."""
    return [
        sorted(tuple(r) for part in step for r in part["rows"]) for step in zip(*ranks, strict=True)
    ]


def test_stopped_at_a_random_step_and_resumed(shards):
    stop = random.Random().randrange(5, 60)
    whole = in_processes(shards, 2, 0, stop + 20)
    rest = in_processes(shards, 2, stop, stop + 20)
    for rank in range(2):
        assert [b["digest"] for b in whole[rank][stop:]] == [b["digest"] for b in rest[rank]]


def test_one_two_four_and_eight_workers_see_the_same_global_batches(shards):
    one, *others = (as_sets(in_processes(shards, n, 60, 70)) for n in (1, 2, 4, 8))
    assert all(other == one for other in others)
    assert len(one[0]) == GLOBAL_BATCH


def test_an_epoch_on_four_then_two_then_four_workers_has_every_sample_once(shards):
    parts = ((4, 0, 30), (2, 30, 60), (4, 60, 110))
    rows = [
        (row, epoch)
        for world, start, stop in parts
        for step in as_sets(in_processes(shards, world, start, stop))
        for row, epoch, _ in step
    ]
    first = [row for row, epoch in rows if epoch == 0]
    assert sorted(first) == list(range(ROWS))
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize("how", ["processes", "ray"])
def test_every_reader_gives_the_same_arrays(ray_local, shards, how):
    expected = batches(shards, 2, 1, 66, 78)  # across the epoch's end
    assert batches(shards, 2, 1, 66, 78, how) == expected


def test_the_same_on_s3(s3_environment, shards, tmp_path):
    """Shards that are an artifact on object storage."""
    from making_shards import stage

    from momo_platform.stages import make_plan, open_storage
    from tests.platform.stages.making import make

    storage = open_storage("s3://corpora/exactness")
    made = stage(shards)
    make(storage, made)
    artifact = storage.artifact("shards", make_plan([made], storage)["shards"].fingerprint)
    place = f"{artifact.place.root}|{artifact.place.path}"
    expected = in_processes(shards, 2, 60, 75)
    assert in_processes(place, 2, 60, 75) == expected
    assert in_processes(place, 2, 60, 75, "processes") == expected
