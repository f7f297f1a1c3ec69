"""How often an object store is asked, and for how much, when a corpus is listed and read."""

import io
import tarfile
import threading
import time

import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from momo_platform.data import filesystems
from momo_platform.data.config import SourceConfig
from momo_platform.data.filesystems import READ_BYTES, BlockFile, read_files, read_spans
from momo_platform.data.images import BadImage
from momo_platform.data.listing import FileRef, SpanRef, picture_of
from momo_platform.data.raw_pictures import raw_pictures
from momo_platform.data.sources import list_rows
from pipelines.modalities import PAIR


class Store:
    """Files in memory that are read as from an object store; `asked` are (path, bytes) of each
    request, `most` how many were under way at once."""

    def __init__(self, files, seconds=0.0):
        self.files, self.seconds = files, seconds
        self.asked, self.most = [], 0
        self._under_way, self._lock = 0, threading.Lock()

    def request(self, path, raw):
        with self._lock:
            self._under_way += 1
            self.most = max(self.most, self._under_way)
        time.sleep(self.seconds)
        with self._lock:
            self._under_way -= 1
            self.asked.append((path, len(raw)))
        return raw

    def open_input_file(self, path):
        if path not in self.files:
            raise FileNotFoundError(path)
        return pa.PythonFile(_Object(self, path), "r")

    open_input_stream = open_input_file

    def get_file_info(self, asked):
        if isinstance(asked, str) and asked in self.files:
            return pafs.FileInfo(asked, pafs.FileType.File, size=len(self.files[asked]))
        if isinstance(asked, str):
            return pafs.FileInfo(asked, pafs.FileType.Directory)
        return [
            pafs.FileInfo(path, pafs.FileType.File, size=len(raw))
            for path, raw in self.files.items()
        ]


class _Object(io.BytesIO):
    def __init__(self, store, path):
        super().__init__(store.files[path])
        self._store, self._path = store, path

    def read(self, count=-1):
        return self._store.request(self._path, super().read(count))


@pytest.fixture
def connected(monkeypatch):
    def connect(files, seconds=0.0):
        store = Store(files, seconds)
        monkeypatch.setattr(filesystems, "open_uri", lambda uri: (store, uri[len("store://") :]))
        filesystems.filesystem_of.cache_clear()
        return store

    yield connect
    filesystems.filesystem_of.cache_clear()


def tar_of(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, raw in members:
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return buffer.getvalue()


def shard(count, size):
    """`count` pairs, pictures of `size` bytes that begin with their number."""
    members = []
    for n in range(count):
        members.append((f"{n:05d}.jpg", f"{n:05d}".encode() + bytes(size - 5)))
        members.append((f"{n:05d}.txt", f"caption {n}".encode()))
    return tar_of(members)


def test_a_tar_is_listed_and_read_by_few_large_requests(connected):
    raw = shard(2000, 25_000)
    store = connected({"bucket/a.tar": raw})
    rows = [*list_rows(SourceConfig("s", ""), "store://bucket/a.tar", PAIR.kind)]
    assert len(rows) == 2000
    assert not any(row["reason"] for row in rows)
    sizes = [size for _, size in store.asked]
    assert sum(sizes) == len(raw)  # once
    assert all(size == READ_BYTES for size in sizes[:-1])

    store.asked.clear()
    pictures = [p.raw() for p in raw_pictures([picture_of(row) for row in rows])]
    assert [p[:5] for p in pictures] == [f"{n:05d}".encode() for n in range(2000)]
    assert {len(p) for p in pictures} == {25_000}
    sizes = [size for _, size in store.asked]
    assert min(sizes) >= READ_BYTES
    assert max(sizes) <= 3 * READ_BYTES
    assert sum(sizes) <= len(raw)


def test_spans_are_read_together_where_they_are_near(connected):
    large = bytes(range(256)) * 2**18  # 64 MB
    store = connected({"bucket/a": large})

    def read(*spans):
        store.asked.clear()
        found = [*read_spans("store://bucket", "bucket/a", spans)]
        assert found == [large[o : o + s] for o, s in spans]
        return [size for _, size in store.asked]

    mega = 2**20
    assert read() == []
    assert read((7, 100)) == [100]
    assert read((0, 10), (20, 10), (5, 5)) == [30]
    assert read((0, mega), (4 * mega, mega)) == [5 * mega]
    assert read((0, mega), (40 * mega, mega)) == [mega, mega]  # what lies between is too much
    assert read((60 * mega, mega), (0, mega)) == [mega, mega]
    assert read((0, 60 * mega)) == [60 * mega]
    assert read((0, 10), (10, 60 * mega)) == [10, 60 * mega]
    assert read(*((n * 50_000, 40_000) for n in range(400))) == [400 * 50_000 - 10_000]
    sizes = read(*((n * 50_000, 50_000) for n in range(1300)))
    assert min(sizes) >= READ_BYTES
    assert max(sizes) <= 3 * READ_BYTES
    (short,) = read_spans("store://bucket", "bucket/a", [(64 * mega - 5, 10)])
    assert len(short) == 5


def test_a_tar_that_has_become_shorter_costs_the_rows_that_it_lacks(connected):
    connected({"bucket/a.tar": bytes(100)})
    refs = [SpanRef("store://bucket", "bucket/a.tar", start, 60) for start in (0, 60)]
    first, second = raw_pictures(refs)
    assert first.raw() == bytes(60)
    with pytest.raises(BadImage, match="shorter than when it was listed"):
        second.raw()


def test_files_are_read_ahead_and_in_order(connected):
    files = {f"bucket/{n}": f"{n}".encode() for n in range(100)}
    files["bucket/50"] = bytes(5 * 2**20)
    del files["bucket/7"]
    store = connected(files, seconds=0.005)
    refs = [FileRef("store://bucket", f"bucket/{n}") for n in range(100)]
    refs[9] = FileRef("http://somewhere/9")
    for n, picture in enumerate(raw_pictures(refs)):
        if n in (7, 9):
            with pytest.raises(BadImage, match=["does not exist", "img2dataset"][n == 9]):
                picture.raw()
        else:
            assert picture.raw() == files[f"bucket/{n}"]
    assert 2 < store.most <= 9
    read = [path for path, _ in store.asked if path != "bucket/50"]
    assert len(read) == 97
    assert sorted(size for path, size in store.asked if path == "bucket/50") == [2**20, 2**22]


def test_what_was_not_asked_for_is_not_raised(connected):
    connected({})
    gone = [("store://bucket", f"bucket/{n}") for n in range(40)]
    assert len([*read_files(gone)]) == 40


def test_captions_beside_pictures_are_read_a_few_at_a_time(connected):
    files = {f"bucket/{n:03d}.jpg": b"x" for n in range(40)}
    files |= {f"bucket/{n:03d}.txt": f"caption {n}".encode() for n in range(40)}
    store = connected(files, seconds=0.005)
    rows = [*list_rows(SourceConfig("s", ""), "store://bucket", PAIR.kind)]
    assert [row["captions"] for row in rows] == [[f"caption {n}"] for n in range(40)]
    assert len(store.asked) == 40
    assert 2 < store.most <= 8


def test_blocks_are_read_once_with_small_steps_back(connected):
    raw = bytes(range(250)) * 10
    store = connected({"bucket/a": raw})
    file = BlockFile(store.open_input_file("bucket/a"), 100)
    assert file.size == len(raw)
    for place, count in ((0, 10), (95, 10), (90, 20), (199, 150), (340, 5), (2490, 100), (3000, 5)):
        file.seek(place)
        assert file.read(count) == raw[place : place + count]
        assert file.read(3) == raw[place + count : place + count + 3]
    assert [size for _, size in store.asked] == [100] * 5
