"""The order over real processes: resumed, with other numbers of workers, from other readers."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from batches_process import GLOBAL_BATCH, batches

from momo_platform.data.mix import MixConfig
from momo_platform.data.order import SampleOrder, permuted
from momo_platform.data.shards import ShardDataset, write_shards
from pipelines.modalities.image import run_mix_image

HERE = Path(__file__).parent
ROWS = 48 * 70 + 13


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    table = pa.table({"id": pa.array(range(ROWS), pa.int64())})
    write_shards(iter([table]), folder, row_group=32, rows_per_shard=700)
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
    """Each global batch as a sorted list of (row, its noise)."""
    return [
        sorted(tuple(r) for part in step for r in part["rows"]) for step in zip(*ranks, strict=True)
    ]


def test_stopped_at_a_random_step_and_resumed(shards):
    stop = random.Random().randrange(5, 60)
    whole = in_processes(shards, 2, 0, stop + 20)
    rest = in_processes(shards, 2, stop, stop + 20)
    for rank in range(2):
        assert [b["digest"] for b in whole[rank][stop:]] == [b["digest"] for b in rest[rank]]


def test_one_two_and_four_workers_see_the_same_global_batches(shards):
    one, two, four = (as_sets(in_processes(shards, n, 60, 80)) for n in (1, 2, 4))
    assert one == two == four
    assert len(one[0]) == GLOBAL_BATCH


def test_an_epoch_on_four_then_two_then_four_workers_has_every_sample_once(shards):
    parts = ((4, 0, 20), (2, 20, 50), (4, 50, 71))
    steps = [
        [row for row, _ in step]
        for world, start, stop in parts
        for step in as_sets(in_processes(shards, world, start, stop))
    ]
    first = [row for step in steps[:-1] for row in step]
    assert len(set(first)) == len(first) == 70 * GLOBAL_BATCH
    assert set(range(ROWS)) - set(first) <= set(steps[-1])  # where the next epoch begins


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
    fetched = in_processes(artifact.path / "shards", 2, 60, 75)
    assert fetched == in_processes(shards, 2, 60, 75)


class Prepared:
    def __init__(self, path):
        self.path = path


class Out:
    def __init__(self, output):
        self.output = output
        output.mkdir()


def test_the_mixture_is_within_one_percent_and_no_order_is_kept(tmp_path):
    sizes, weights = {"a": 60_000, "b": 20_000, "c": 5_000}, {"a": 0.5, "b": 2.0, "c": 6.0}
    sources = [name for name, n in sizes.items() for _ in range(n)]
    images = [f"{i:08d}".encode() for i in range(len(sources))]
    pq.write_table(
        pa.table({"source": sources, "image": images, "split": ["train"] * len(sources)}),
        tmp_path / "data.parquet",
        row_group_size=512,
    )
    out = Out(tmp_path / "out")
    run_mix_image(MixConfig(weights, seed=3), {"prepared": Prepared(tmp_path)}, out)
    dataset = ShardDataset(out.output / "shards")
    _, rows = SampleOrder(len(dataset), dataset.row_group, seed=1).rows_at(0, 100_000)
    numbers = np.array([int(raw) for raw in dataset.read(rows)["image"].to_pylist()])
    starts = np.cumsum([0, *sizes.values()])
    total = sum(sizes[n] * weights[n] for n in sizes)
    for index, name in enumerate(sizes):
        here = (numbers >= starts[index]) & (numbers < starts[index + 1])
        assert here.mean() == pytest.approx(sizes[name] * weights[name] / total, rel=0.01)
        places = np.flatnonzero(here)
        assert abs(np.corrcoef(places, numbers[here])[0, 1]) < 0.03
        # spread evenly: in every tenth of the epoch about a tenth of the source
        tenths = np.histogram(places, bins=10, range=(0, len(numbers)))[0] / len(places)
        assert np.abs(tenths - 0.1).max() < 0.02


@pytest.mark.parametrize("size", [1, 2, 3, 257, 4096])
def test_the_block_permutation_is_one(size):
    for epoch in range(3):
        assert sorted(permuted(np.arange(size), size, 9, epoch).tolist()) == list(range(size))
