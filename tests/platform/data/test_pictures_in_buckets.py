"""Pictures on a real S3 server: in folders, in tars, and named by their own addresses."""

import io
import tarfile

import pyarrow as pa
import pyarrow.fs as pafs
import pytest
from test_inputs_people_have import laid_out, picture, prepared

from experiments.benchmarks.object_store import running
from momo_platform.data import filesystems


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    filesystems.filesystem_of.cache_clear()
    with running(tmp_path_factory.mktemp("s3"), "pictures") as server:
        yield server
    filesystems.filesystem_of.cache_clear()


def put(name, raw):
    filesystem, path = pafs.FileSystem.from_uri("s3://pictures")
    with filesystem.open_output_stream(f"{path}/{name}") as file:
        file.write(raw)


def test_a_folder_and_a_tar_in_a_bucket(server):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for n in range(40):
            for name, raw in ((f"{n}.png", picture(n)), (f"{n}.txt", f"caption {n}".encode())):
                put(f"folder/{name}", raw)
                info = tarfile.TarInfo(name)
                info.size = len(raw)
                tar.addfile(info, io.BytesIO(raw))
    put("a.tar", buffer.getvalue())
    for place in ("s3://pictures/folder", "s3://pictures/a.tar"):
        found = prepared(place)
        assert not any(row["reason"] for row in found)
        captions = {row["captions"][0] for row in found}
        assert captions == {f"caption {n}" for n in range(40)}


def test_rows_that_name_what_a_bucket_has_and_has_not(server, tmp_path):
    put("there/a b%1.png", picture(1))
    names = {
        "s3://pictures/there/a%20b%251.png": None,
        "s3://pictures/there/none.png": "the picture does not exist: s3://pictures/there/none.png",
        "s3://pictures/there": "the picture",
        "s3://no-such-bucket/a.png": "the picture",
        "s3://pictures": "the picture",
        "s3:///a.png": "the picture",
    }
    image = [{"bytes": None, "path": name} for name in names]
    table = pa.table({"image": image, "caption": ["words"] * len(names)})
    found = prepared(laid_out(tmp_path, {"rows.parquet": table}))
    for row, (name, expected) in zip(found, names.items(), strict=True):
        if expected is None:
            assert row["reason"] is None, name
        else:
            assert row["reason"].startswith(expected), (name, row["reason"])


def test_a_server_that_does_not_answer_is_no_rows_fault(server, tmp_path):
    put("c.png", picture(1))
    table = pa.table({"image": ["s3://pictures/c.png"], "caption": ["words"]})
    source = laid_out(tmp_path, {"rows.parquet": table})
    assert prepared(source)[0]["reason"] is None
    server.kill()
    try:
        with pytest.raises(OSError, match="(?i)connect|timeout|network"):
            prepared(source)
    finally:
        server.start()
