"""Noise, rows by number and the loader."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from making_shards import write_folder

from momo_platform.data.dataset import ShardDataset
from momo_platform.data.loader import Loader
from momo_platform.data.order import sample_seeds, uniform
from momo_platform.data.share import rows_of_ranks


def test_uniform_depends_on_the_sample_only():
    seeds = sample_seeds(1, np.zeros(5, np.int64), np.arange(5))
    whole = uniform(seeds, 1000)
    assert np.array_equal(whole[3], uniform(seeds[3:4], 1000)[0])
    assert 0.0 <= whole.min() < 0.01
    assert 0.99 < whole.max() < 1.0
    assert abs(whole.mean() - 0.5) < 0.02
    assert not np.array_equal(whole, uniform(seeds, 1000, 1))


@pytest.fixture
def shards(tmp_path):
    write_folder(tmp_path, pa.table({"n": np.arange(1000)}), row_group=64, rows_per_shard=200)
    return ShardDataset(tmp_path)


def _numbers(table, seeds):
    return {"n": table["n"].to_numpy(), "seed": seeds}


def test_rows_come_in_the_order_asked(shards):
    rows = np.array([999, 0, 64, 63, 500, 0])
    assert shards.read(rows)["n"].to_pylist() == rows.tolist()


def test_the_global_batch_is_the_same_for_any_number_of_workers(shards):
    def batch(world, step):
        parts = [
            Loader(shards, _numbers, global_batch_size=48, rank=r, world_size=world, seed=1).batch(
                step
            )
            for r in range(world)
        ]
        return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}

    for step in (0, 20, 21, 500):
        one = batch(1, step)
        for world in (2, 4):
            other = batch(world, step)
            assert all(np.array_equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("unit", [1, 4, 7])
def test_workers_share_a_batch_unevenly_in_whole_units(shards, unit):
    size = 30
    whole = Loader(shards, _numbers, global_batch_size=size, seed=1).batch(7)
    for world in range(1, -(-size // unit) + 1):
        loaders = [
            Loader(
                *(shards, _numbers),
                global_batch_size=size,
                rank=rank,
                world_size=world,
                seed=1,
                unit=unit,
            )
            for rank in range(world)
        ]
        parts = [loader.batch(7) for loader in loaders]
        assert all(
            np.array_equal(whole[k], np.concatenate([part[k] for part in parts])) for k in whole
        )
        rows = [len(part["n"]) for part in parts]
        assert tuple(rows) == rows_of_ranks(size, world, unit)
        assert all(count and count % unit == 0 for count in rows[:-1])
        assert max(rows) - min(rows) <= 2 * unit


def test_iterating_from_a_step_equals_reading_it(shards):
    loader = Loader(shards, _numbers, global_batch_size=32, seed=1)
    iterator = loader.iterate(37)
    for step in (37, 38, 39):
        assert np.array_equal(next(iterator)["n"], loader.batch(step)["n"])
    loader.close()


def test_an_error_in_the_reading_thread_surfaces(shards):
    def fail(table, seeds):
        raise RuntimeError("row 7 is broken")

    loader = Loader(shards, fail, global_batch_size=32)
    with pytest.raises(RuntimeError, match="row 7"):
        next(loader.iterate(0))
    loader.close()


def test_a_batch_that_workers_cannot_share_is_refused(shards):
    with pytest.raises(ValueError, match="3 rows, fewer than 4 workers"):
        Loader(shards, _numbers, global_batch_size=3, world_size=4)
    with pytest.raises(ValueError, match="3 groups of 12 rows, fewer than 4 workers"):
        Loader(shards, _numbers, global_batch_size=30, world_size=4, unit=12)


def test_a_closed_loader_says_so(shards):
    loader = Loader(shards, _numbers, global_batch_size=32)
    iterator = loader.iterate(0)
    next(iterator)
    loader.close()
    with pytest.raises(ValueError, match="closed"):
        list(itertools.islice(iterator, 9))
    with pytest.raises(ValueError, match="closed"):
        next(loader.iterate(3))
