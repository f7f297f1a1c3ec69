"""Places in a folder and in a bucket: the same for whoever reads and writes there."""

import os
import pickle
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from experiments.benchmarks.object_store import S3Server
from momo_platform.files import is_partial
from momo_platform.stages import UserError
from momo_platform.stages.leftovers import scratch_folders
from momo_platform.stages.storage.place import Place
from momo_platform.stages.storage.scratch import artifact_cache


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        server.make_bucket("places")
    yield server
    server.kill()


@pytest.fixture(params=["folder", "file", "bucket", "endpoint"])
def place(request, tmp_path, monkeypatch):
    if request.param == "endpoint":  # named by the URI alone
        server = request.getfixturevalue("server")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("AWS_ENDPOINT_URL")
        options = f"?scheme=http&endpoint_override=127.0.0.1:{server.port}"
        root = f"s3://places/{uuid.uuid4().hex}/runs{options}"
    elif request.param == "bucket":
        request.getfixturevalue("s3_environment")
        root = f"s3://corpora/{uuid.uuid4().hex}/runs"
    else:
        root = {"folder": "", "file": "file://"}[request.param] + str(tmp_path / "runs")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Place(root) / "a"


def test_what_is_written_is_read_whole_and_in_parts_by_every_process(place):
    content = bytes(range(256)) * 5000
    place.write("inner/x.bin", content)
    place.write("inner/x.bin", content)  # again
    place.write("empty", b"")
    there = pickle.loads(pickle.dumps(place))
    assert there == place
    assert there.read("inner/x.bin") == content
    assert (there.read("empty"), there.size("empty")) == (b"", 0)
    assert there.size("inner/x.bin") == len(content)
    assert (there.size("inner"), there.size("inner/x.bin/y"), there.size("z")) == (None,) * 3
    assert there.read_range("inner/x.bin", 1000, 300) == content[1000:1300]
    assert there.read_range("inner/x.bin", len(content) - 7, 100) == content[-7:]
    with there.open("inner/x.bin") as file:
        file.seek(512)
        assert (file.read(16), file.read_at(4, 10)) == (bytes(range(16)), bytes(range(10, 14)))
    assert (there / "inner").read("x.bin") == content
    assert (there.folder is None) == ("s3://" in there.root)
    assert str(there / "inner").partition("?")[0].endswith("/runs/a/inner")


def test_names_are_those_of_files_below(place):
    assert place.names() == place.names("nowhere") == []
    for name in ("b.txt", "a/2", "a/1", "a/deep/3", "c"):
        place.write(name, b"1")
    assert place.names() == ["a/1", "a/2", "a/deep/3", "b.txt", "c"]
    assert place.names("a") == ["a/1", "a/2", "a/deep/3"]
    assert (place / "a").names() == ["1", "2", "deep/3"]
    place.remove("b.txt")
    place.remove("b.txt")
    place.remove("a")
    place.remove("nowhere/nothing")
    assert place.names() == ["c"]


@pytest.mark.parametrize("missing", [Place.open, Place.read, lambda p, n: p.read_range(n, 0, 1)])
def test_a_file_that_is_not_there_is_named(place, missing):
    place.write("other", b"")
    with pytest.raises(FileNotFoundError, match="runs/a/none"):
        missing(place, "none")


@pytest.mark.parametrize("error", [OSError("broken"), KeyboardInterrupt()])
def test_what_is_interrupted_leaves_nothing_and_spares_what_was_there(place, error):
    def half(name):
        with place.writing(name) as path:
            path.write_bytes(b"half")
            assert place.names() in ([], ["old"])
            raise error

    for name in ("new", "new", "old"):
        if name == "old":
            place.write("old", b"whole")
        with pytest.raises(type(error)):
            half(name)
    assert (place.names(), place.read("old")) == (["old"], b"whole")
    left = [p.name for p in artifact_cache().glob("*")]
    if (folder := place.folder) is not None:
        left += [p.name for p in folder.rglob("*") if p.name != "old"]
    assert left == []


WRITER = """
import sys, time
from momo_platform.stages.storage.place import Place
with Place(sys.argv[1], sys.argv[2]).writing("shard") as path:
    path.write_bytes(b"half")
    print("half", flush=True)
    time.sleep(600)
"""


def test_a_writer_that_is_killed_leaves_nothing_that_is_listed_and_gc_frees_its_scratch(place):
    place.write("shard", b"whole")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", WRITER, place.root, place.path]
    writer = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "half\n"
    writer.kill()
    writer.wait()
    assert (place.names(), place.read("shard")) == (["shard"], b"whole")
    if (folder := place.folder) is None:
        assert [one.fate for one in scratch_folders()] == ["gone"]
    else:
        assert [is_partial(file) for file in sorted(folder.iterdir())] == [True, False]


def test_writers_of_one_name_leave_one_of_their_files(place):
    contents = [bytes([65 + i]) * 300_000 for i in range(6)]

    def write(content):
        for _ in range(3):
            place.write("shard", content)

    with ThreadPoolExecutor(6) as threads:
        writers = [threads.submit(write, content) for content in contents]
        deadline = time.monotonic() + 60
        while not all(w.done() for w in writers) and time.monotonic() < deadline:
            if place.size("shard") is not None:
                assert place.read("shard") in contents
        for writer in writers:
            writer.result()
    assert place.read("shard") in contents
    assert place.names() == ["shard"]


def test_a_machine_that_does_not_see_a_shared_place_is_told(tmp_path):
    place = Place(str(tmp_path / "attempt"), shared=True) / "shards"
    for act in (lambda: place.write("x", b""), lambda: place.read("x"), lambda: place.open("x")):
        with pytest.raises(UserError, match=r"attempt is not there on .*--storage"):
            act()
    assert not list(tmp_path.iterdir())
    (tmp_path / "attempt").mkdir()
    place.write("x", b"1")
    assert place.names() == ["x"]
    with pytest.raises(FileNotFoundError):
        place.read("y")
