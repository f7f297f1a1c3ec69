"""What reading may take of a machine: memory, disk, open files, and reads in vain."""

import os
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pyarrow as pa
import pytest
import torch
from making_shards import write_folder

from momo_platform.data import dataset as datasets
from momo_platform.data import node_cache, row_groups
from momo_platform.data.dataset import ShardDataset
from momo_platform.data.loader import Loader
from momo_platform.data.node_cache import NodeCache
from momo_platform.data.ray_ingest import _make
from momo_platform.data.resident import ResidentShards
from momo_platform.data.shard_reader import ShardReader
from momo_platform.stages.storage.place import Place


def ids(table, seeds):
    return {"id": table["id"].to_numpy()}


def table_of(rows, size):
    generator = np.random.default_rng(0)
    return pa.table({"id": np.arange(rows), "image": [generator.bytes(size) for _ in range(rows)]})


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def reads(monkeypatch):
    """Of row groups from the storage."""
    made, batch = [], ShardReader.batch

    def counted(self, file, group, columns):
        made.append((file, group))
        return batch(self, file, group, columns)

    monkeypatch.setattr(ShardReader, "batch", counted)
    return made


def own_bytes(dataset):
    """Of batches that a process made, whose memory no other one shares."""
    with dataset._held.lock:
        return dataset._held.bytes


def read(loader, steps):
    for step in steps:
        loader.batch(step)
    loader._dataset._held.pool.shutdown(wait=True)


@pytest.mark.parametrize("single", [0, 16_384])
def test_reader_processes_read_each_row_group_once_and_hold_it_once(
    tmp_path, monkeypatch, reads, single
):
    monkeypatch.setattr(row_groups, "SINGLE", single)
    monkeypatch.setattr(datasets, "_HELD_BYTES", 2**20)
    write_folder(tmp_path, table_of(4096, 1000), row_group=16, rows_per_shard=1024)
    for process in range(4):
        dataset = ShardDataset(Place(str(tmp_path)))
        loader = Loader(dataset, ids, global_batch_size=64, processes=4)
        read(loader, range(process, 64, 4))
        assert own_bytes(dataset) <= 2**18
    assert len(reads) == len(set(reads)) == 256


def test_reader_processes_of_a_small_corpus_hold_it_and_need_no_disk(tmp_path, monkeypatch, reads):
    monkeypatch.setattr(row_groups, "SINGLE", 0)
    write_folder(tmp_path, table_of(4096, 100), row_group=16, rows_per_shard=1024)
    read(Loader(ShardDataset(tmp_path), ids, global_batch_size=64, processes=4), range(0, 256, 4))
    assert len(reads) == len(set(reads)) == 256
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("full", [False, True])
def test_one_process_holds_no_more_than_it_may(tmp_path, monkeypatch, reads, caplog, full):
    monkeypatch.setattr(datasets, "_HELD_BYTES", 2**20)
    write_folder(tmp_path, table_of(4096, 1000), row_group=16, rows_per_shard=1024)
    dataset = ShardDataset(tmp_path)
    if full:
        (tmp_path / "cache").write_text("no folder")
    loader = Loader(dataset, ids, global_batch_size=64)
    for step in range(10 if full else 64):
        assert len(loader.batch(step)["id"]) == 64
        assert own_bytes(dataset) <= 2**20
    assert full or len(reads) < 2 * 256
    assert ("can't be kept" in caplog.text) == full
    loader.close()


def _fill(part):
    batch = pa.RecordBatch.from_pydict({"n": list(range(10_000))})
    for number in range(12):
        NodeCache("x", 16 * batch.nbytes).batch(f"{part}-{number}", lambda: batch)


def test_the_machines_cache_is_bounded_over_many_processes(tmp_path):
    with get_context("spawn").Pool(2) as pool:
        pool.map(_fill, range(8))
    files = list((tmp_path / "cache").rglob("*.arrow*"))
    assert 8 < len(files) <= 18


def test_a_cache_that_cannot_be_written_to_is_gone_without(tmp_path, monkeypatch, caplog):
    batch = pa.RecordBatch.from_pydict({"n": [1, 2]})
    cache = NodeCache("x", 10**6)
    cache._folder.rmdir()  # so that no lock can be made
    assert [cache.batch(name, lambda: batch) for name in "aba"] == [batch] * 3
    assert caplog.text.count("can't be kept") == 1
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert NodeCache("x").batch("a", lambda: batch) is batch
    with pytest.raises(FileNotFoundError, match="of the storage"):
        NodeCache("x").batch(
            "a", lambda: (_ for _ in ()).throw(FileNotFoundError("of the storage"))
        )


@pytest.mark.parametrize("size", [0, 40, 300])
def test_a_damaged_file_of_the_cache_is_fetched_again(size):
    batch = pa.RecordBatch.from_pydict({"n": list(range(1000))})
    cache = NodeCache("x", 10**6)
    cache.batch("a", lambda: batch)
    os.truncate(cache._folder / "a.arrow", size)
    assert cache.batch("a", lambda: batch).equals(batch)
    assert node_cache._mapped(cache._folder / "a.arrow").equals(batch)


def test_a_task_of_ray_reads_ahead_in_its_own_steps_alone(tmp_path, monkeypatch):
    write_folder(tmp_path, table_of(4096, 10))
    dataset, asked = ShardDataset(tmp_path), []
    ahead = dataset.ahead
    monkeypatch.setattr(dataset, "ahead", lambda rows: (asked.append(len(rows)), ahead(rows)))
    loader = Loader(dataset, ids, global_batch_size=64)
    monkeypatch.setattr("momo_platform.data.ray_ingest._loaded", lambda _: loader.batch)
    for begin in range(0, 512, 32):
        _make(pa.table({"id": range(begin, begin + 4)}), b"", 7)
    assert sum(asked) == 16 * 4 * 64
    assert len(loader._coming) <= 1


def test_many_datasets_have_few_files_open(tmp_path):
    write_folder(tmp_path, table_of(400, 10), row_group=2, rows_per_shard=2)
    before = len(os.listdir("/proc/self/fd"))
    kept = [ShardDataset(tmp_path) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        for table in pool.map(lambda one: one.read(np.arange(400)), kept):
            assert table["id"].to_pylist() == list(range(400))
    assert len(os.listdir("/proc/self/fd")) <= before + 64 + 12
    if (child := os.fork()) == 0:
        os._exit(0 if ShardDataset(tmp_path).read(np.arange(9))["id"].to_pylist()[8] == 8 else 1)
    assert os.waitpid(child, 0)[1] == 0


class Picture:
    width = height = 2

    def __init__(self, raw):
        self.raw = raw

    def pixels(self):
        return np.full((2, 2, 3), self.raw[0], np.uint8)


@pytest.mark.parametrize("columns", [("image",), ("image", "id")])
def test_a_resident_corpus_is_on_the_device_alone_without_what_is_left_out(tmp_path, columns):
    write_folder(tmp_path, table_of(1000, 300))
    left = np.arange(0, 1000, 2)
    shards = ShardDataset(tmp_path, columns=columns, left_out=left)
    resident = ResidentShards(shards, Picture, cores=2)
    loader = Loader(resident, lambda table, _: table.to_pydict(), global_batch_size=64)
    flat = loader.resident(torch.device("cpu"), lambda _: None)["flat"]
    assert len(flat) == 500 * 12
    assert shards._held is None
    raw = ShardDataset(tmp_path).read(np.arange(1000))["image"].to_pylist()
    batch = loader.batch(0)
    if "id" in batch:
        for row, start in zip(batch["id"], batch["start"], strict=True):
            assert row % 2
            assert int(flat[start]) == raw[row][0]
