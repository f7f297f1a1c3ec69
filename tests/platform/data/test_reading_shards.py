"""Reading row groups from where they lie: how much is fetched, held, kept, and what goes wrong."""

import json
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import uuid
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from batches_process import batches
from making_shards import write_folder

from experiments.benchmarks.object_store import S3Server
from momo_platform.data import row_groups
from momo_platform.data.dataset import ShardDataset
from momo_platform.data.loader import Loader
from momo_platform.data.node_cache import NodeCache
from momo_platform.data.shard_reader import ShardReader, read_columns
from momo_platform.data.shards import write_rows
from momo_platform.stages import UserError
from momo_platform.stages.storage.place import Place


class Counted:
    def __init__(self, file, reads):
        self.file, self.reads = file, reads

    def read_at(self, size, offset):
        self.reads.append(size)
        return self.file.read_at(size, offset)


@dataclass(frozen=True)
class CountingPlace(Place):
    """Notes how many bytes each read takes."""

    reads: list = field(default_factory=list, compare=False)

    def open(self, name):
        return Counted(super().open(name), self.reads)


def ids(table, seeds):
    return {"id": table["id"].to_numpy()}


def table_of(rows, size=100):
    content = np.random.default_rng(0).bytes(rows * size)
    pictures = [content[i * size : (i + 1) * size] for i in range(rows)]
    return pa.table({"id": np.arange(rows), "image": pictures})


@pytest.fixture(scope="module")
def many_groups(tmp_path_factory):
    folder = tmp_path_factory.mktemp("groups")
    return folder, write_folder(folder, table_of(8192, 400), row_group=8, rows_per_shard=500)


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_what_is_fetched_is_what_is_used(many_groups, monkeypatch, world):
    monkeypatch.setattr(row_groups, "SINGLE", 0)
    folder, index = many_groups
    used = sum(shard.ends_at for shard in index.shards)
    fetched, seen = 0, []
    for rank in range(world):
        place = CountingPlace(str(folder))
        loader = Loader(
            *(ShardDataset(place), ids), global_batch_size=16, rank=rank, world_size=world
        )
        for step in range(8192 // 16):
            seen += loader.batch(step)["id"].tolist()
        loader.close()
        fetched += sum(place.reads)
    assert len(set(seen)) > 0.98 * 8192  # nearly an epoch: lanes end a little apart
    assert fetched <= 1.1 * used


def test_what_is_held_is_bounded(many_groups, monkeypatch):
    monkeypatch.setattr(row_groups, "SINGLE", 0)
    dataset = ShardDataset(many_groups[0])
    loader = Loader(dataset, ids, global_batch_size=16, rank=1, world_size=4)
    for step in range(200):
        loader.batch(step)
    held = dataset._held.groups[0]
    assert 4 * 4 <= len(held) <= dataset._most[0] < 8192 / 8 / 4
    loader.close()
    assert dataset._held is None


def test_each_row_group_is_a_file_by_itself_and_all_are_one(tmp_path):
    kinds = {
        "id": pa.array(range(300)),
        "captions": pa.array([["a"] * (i % 3) for i in range(300)]),
        "look": pa.array([None if i % 2 else b"x" for i in range(300)], pa.binary()),
        "digest": pa.array([i.to_bytes(16, "big") for i in range(300)], pa.binary(16)),
        "ids": pa.array([[i] * 4 for i in range(300)], pa.list_(pa.int32(), 4)),
    }
    for names in (["id", "captions", "look"], list(kinds)):
        table = pa.table({name: kinds[name] for name in names})
        place = Place(str(tmp_path / str(len(names))))
        tables = (table.slice(start, 70) for start in range(0, 300, 70))
        shard = write_rows(place, "x.parquet", tables, 64)
        again = write_rows(place, "y.parquet", [table], 64)
        assert place.read("x.parquet") == place.read("y.parquet")
        assert (shard.size, shard.sha256, shard.rows) == (again.size, again.sha256, 300)
        whole = pq.ParquetFile(place.folder / "x.parquet", page_checksum_verification=True)
        assert whole.read().equals(table)
        assert [whole.metadata.row_group(i).num_rows for i in range(5)] == [64] * 4 + [44]
        reader = ShardReader(place, [shard], 64)
        alone = [reader.batch(0, group, names) for group in (4, 0, 2, 3, 1)]
        assert pa.Table.from_batches([alone[i] for i in (1, 4, 2, 3, 0)]).equals(table)
        assert reader.batch(0, 1, ["id"]).schema.names == ["id"]
    with pytest.raises(ValueError, match="no rows"):
        write_rows(Place(str(tmp_path)), "none.parquet", [], 64)
    assert not (tmp_path / "none.parquet").exists()


@pytest.fixture
def small(tmp_path):
    place = Place(str(tmp_path), "prepare-image/f/a")
    return place, write_folder(place, table_of(1000, 300), row_group=64, rows_per_shard=500)


def damage(file):
    raw = bytearray(file.read_bytes())
    raw[30_000] ^= 1
    file.write_bytes(raw)


def test_a_damaged_page_names_file_row_group_and_remedy(small):
    place, index = small
    damage(place.folder / index.shards[1].file)
    dataset = ShardDataset(place)
    assert len(dataset.read(np.arange(500, 510))) == 10
    whole = ShardDataset(place)
    with pytest.raises(UserError, match=r"00001.parquet, row group 1: the file is damaged") as told:
        whole.read(np.arange(1000))
    assert "--rerun prepare-image" in str(told.value)
    with pytest.raises(UserError, match="row group 1"):  # and again
        whole.read(np.arange(570, 575))
    with pytest.raises(UserError, match="row group 1"):
        next(Loader(dataset, ids, global_batch_size=1000).iterate(0))


def test_a_damaged_page_is_named_where_columns_are_read(small):
    place, index = small
    damage(place.folder / index.shards[1].file)
    assert sum(map(len, read_columns(place, index.shards[1], ["id"]))) == 500
    with pytest.raises(UserError, match=r"00001.parquet, row groups 0 to 7: .*--rerun prepare-im"):
        list(read_columns(place, index.shards[1], ["image"]))


@pytest.mark.parametrize("size", [0, 20_000, 100_000])
def test_a_cut_file_is_damaged(small, size):
    place, index = small
    with (place.folder / index.shards[0].file).open("r+b") as file:
        file.truncate(size)
    with pytest.raises(UserError, match=r"00000.parquet, row group .*damaged.*--rerun"):
        ShardDataset(place).read(np.arange(1000))


def test_a_shard_that_is_gone_is_named(small):
    place, index = small
    (place.folder / index.shards[1].file).unlink()
    dataset = ShardDataset(place)
    assert len(dataset.read(np.arange(500))) == 500
    with pytest.raises(UserError, match=r"00001.parquet is gone.*--rerun prepare-image"):
        dataset.read(np.arange(1000))


def test_an_index_of_no_rows_is_told(tmp_path):
    write_folder(tmp_path, table_of(0))
    with pytest.raises(UserError, match=r"index.json names no rows"):
        ShardDataset(tmp_path)
    with pytest.raises(FileNotFoundError):
        ShardDataset(tmp_path / "nowhere")


def test_many_threads_read_the_same(small):
    dataset, found = ShardDataset(small[0]), []

    def read(number):
        rows = np.random.default_rng(number).integers(0, 1000, 100)
        for _ in range(20):
            found.append(dataset.read(rows)["id"].to_pylist() == rows.tolist())

    threads = [threading.Thread(target=read, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 160


def test_a_dataset_travels_to_other_processes(small):
    dataset = ShardDataset(small[0], columns=["id"])
    dataset.read(np.arange(3))
    there = pickle.loads(pickle.dumps(dataset))
    assert there.read(np.array([999, 5])).to_pydict() == {"id": [999, 5]}
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:  # its threads are the parent's, which are not there
        os.write(writing, json.dumps(dataset.read(np.array([7, 600])).to_pydict()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert json.loads(os.read(reading, 1000)) == {"id": [7, 600]}


_FETCHER = """
    import sys, time
    import pyarrow as pa
    from momo_platform.data.node_cache import NodeCache

    def fetch():
        with open(sys.argv[1], "a") as file:
            file.write("fetched\\n")
        time.sleep(0.3)
        return pa.RecordBatch.from_pydict({"n": list(range(1000))})

    cache = NodeCache("shared", 10**9)
    for name in ("a", "b", "a"):
        assert cache.batch(name, fetch)["n"].to_pylist() == list(range(1000))
"""


def test_processes_of_a_machine_fetch_a_row_group_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    command = [sys.executable, "-c", textwrap.dedent(_FETCHER), str(tmp_path / "log")]
    paths = os.pathsep.join(p for p in sys.path if p)
    environment = os.environ | {"PYTHONPATH": paths}
    processes = [subprocess.Popen(command, env=environment) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0] * 3
    assert (tmp_path / "log").read_text().count("fetched") == 2


def test_a_machines_cache_is_bounded_and_keeps_what_was_used_last(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    batch = pa.RecordBatch.from_pydict({"n": list(range(10_000))})
    cache, fetched = NodeCache("x", 30 * batch.nbytes), []

    def get(name):
        return cache.batch(name, lambda: fetched.append(name) or batch)

    for number in range(100):
        assert get(str(number)).equals(batch)
        get("0")  # always in use
    files = list(tmp_path.rglob("*.arrow*"))
    assert 15 < len(files) <= 32
    assert fetched.count("0") == 1
    get("99")
    get("1")
    assert (fetched.count("99"), fetched.count("1")) == (1, 2)
    assert not [p for p in files if p.suffix != ".arrow"]  # no half written ones


@pytest.fixture
def server(tmp_path, monkeypatch):
    server = S3Server(tmp_path / "s3")
    server.start()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    server.make_bucket("rows")
    yield server
    server.kill()


@pytest.mark.slow
def test_a_bucket_whose_server_is_killed_and_restarted_gives_the_same_batches(server, tmp_path):
    table = pa.table({"id": pa.array(range(4000), pa.int64()), "x": table_of(4000)["image"]})
    write_folder(tmp_path / "local", table, row_group=16, rows_per_shard=700)
    place = Place(f"s3://rows/{uuid.uuid4().hex}", "mix/f/a")
    write_folder(place, table, row_group=16, rows_per_shard=700)
    expected = batches(tmp_path / "local", 1, 0, 0, 20)
    loader = Loader(ShardDataset(place), ids, global_batch_size=48, seed=5)
    found = []
    for step, batch in zip(range(20), loader.iterate(0), strict=False):
        found.append([row for row, *_ in expected[step]["rows"]] == batch["id"].tolist())
        if step == 2:
            server.kill()
            threading.Timer(1.0, server.start).start()
    loader.close()
    assert found == [True] * 20
