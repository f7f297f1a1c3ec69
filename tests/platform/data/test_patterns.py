"""Braces, wild cards, weights and lists of places."""

import io
import os
import tarfile

import pyarrow.fs as pafs
import pytest
from PIL import Image

from momo_platform.data.config import SourceConfig
from momo_platform.data.digests import blocks_to_hash, hash_files
from momo_platform.data.filesystems import list_files, open_place
from momo_platform.data.patterns import find, is_pattern, listed, names_of, root_of
from momo_platform.data.sources import identify, list_rows, text_places
from momo_platform.stages import UserError
from pipelines.modalities import IMAGE, PAIR, TEXT

FILES = ("a/000.tar", "a/001.tar", "a/010.tar", "b/000.tar", "b/x.csv", "b/.y.csv", "[odd].csv")


@pytest.fixture
def folder(tmp_path):
    for name in FILES:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(name)
    return tmp_path


@pytest.fixture
def bucket(s3_environment):
    """The same files in a bucket; its URI."""
    filesystem, base = pafs.FileSystem.from_uri("s3://corpora/patterns")
    for name in FILES[:-1]:
        with filesystem.open_output_stream(f"{base}/c/{name}") as file:
            file.write(name.encode())
    return "s3://corpora/patterns/c"


def write_tar(path, number):
    picture = io.BytesIO()
    Image.new("RGB", (9, 9), (number, 0, 0)).save(picture, "PNG")
    with tarfile.open(path, "w") as tar:
        for name, raw in (("png", picture.getvalue()), ("txt", b"a caption")):
            info = tarfile.TarInfo(f"{number}.{name}")
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))


def found(place):
    _, base = open_place(place)
    return [os.path.relpath(f.path, base) for f in list_files(place, "--pair.source", "give one")]


PATTERNS = [
    ("a/{000..001}.tar", ["000.tar", "001.tar"]),
    ("{b,a}/000.tar", ["a/000.tar", "b/000.tar"]),
    ("{a,b}", ["a/000.tar", "a/001.tar", "a/010.tar", "b/.y.csv", "b/000.tar", "b/x.csv"]),
    ("a/*.tar", ["000.tar", "001.tar", "010.tar"]),
    ("a/00[0-9].tar", ["000.tar", "001.tar"]),
    ("**/000.tar", ["a/000.tar", "b/000.tar"]),
    ("*/x.csv", ["b/x.csv"]),
    ("b*", [".y.csv", "000.tar", "x.csv"]),
    ("{a,b}/{000,0*}.tar", ["a/000.tar", "a/001.tar", "a/010.tar", "b/000.tar"]),
    ("b/*.csv", ["x.csv"]),
    ("b/x.csv", ["."]),
]


@pytest.mark.parametrize(("pattern", "expected"), PATTERNS)
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_patterns_stand_for_files(folder, scheme, pattern, expected):
    if pattern == "b*":
        expected = [f"b/{name}" for name in expected]
    assert found(f"{scheme}{folder}/{pattern}") == expected


@pytest.mark.parametrize(("pattern", "expected"), PATTERNS)
def test_patterns_stand_for_files_in_a_bucket(bucket, pattern, expected):
    if pattern == "b*":
        expected = [f"b/{name}" for name in expected]
    assert found(f"{bucket}/{pattern}") == expected


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("a/{000..003}.tar", r"not there: \S*a/002.tar, \S*a/003.tar \(2 of the 4"),
        ("{a,b}/*.csv", r"not there: \S*a/\*.csv \(1 of the 2"),
        ("none/*.csv", "no file is called so"),
        ("a/*.csv", "no file is called so"),
        ("x/{1..3}{", "Unbalanced"),
    ],
)
def test_what_is_not_there_is_named(folder, bucket, pattern, told):
    for base in (folder, bucket):
        with pytest.raises(UserError, match=rf"--pair.source \S+: .*{told}"):
            found(f"{base}/{pattern}")


class Asked:
    """A file system elsewhere that notes what it is asked for."""

    def __init__(self):
        self.local, self.listed, self.named = pafs.LocalFileSystem(), [], []

    def get_file_info(self, asked):
        if isinstance(asked, pafs.FileSelector):
            self.listed.append((os.path.basename(asked.base_dir), asked.recursive))
        else:
            self.named += map(os.path.basename, asked)
        return self.local.get_file_info(asked)


def test_only_what_is_named_is_asked_for(folder):
    asked = Asked()
    find(f"{folder}/a/{{000,010}}.tar", asked, f"{folder}/a")
    assert (asked.listed, sorted(asked.named)) == ([], ["000.tar", "010.tar"])
    find(f"{folder}/{{a,b}}/00*.tar", asked, str(folder))
    assert sorted(asked.listed) == [("a", False), ("b", False)]


def test_a_bucket_is_no_pattern():
    with pytest.raises(UserError, match="a bucket is named as it is"):
        found("s3://{a,b}/x.tar")


def test_what_is_there_by_its_very_name_is_no_pattern(folder):
    assert found(f"{folder}/[odd].csv") == ["."]


def test_patterns_from_here_on(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert found("?/x.csv") == ["b/x.csv"]
    assert root_of("/{a,b}/c") == "/"
    assert root_of("file:///{a,b}/c") == "file:///"


def test_a_pattern_is_one_corpus(tmp_path):
    """Its rows are those of its files, whose names begin at the folder before the first sign."""
    folder = tmp_path / "c"
    folder.mkdir()
    for number in range(3):
        write_tar(folder / f"{number}.tar", number)
    for number in range(2):
        (folder / f"{number}.txt").write_text(f"a document {number}\n")
    two = f"{folder}/{{0..1}}.tar"
    rows = list(list_rows(SourceConfig("s", two), two, PAIR.kind))
    assert [row["key"] for row in rows] == ["0.tar:0", "1.tar:1"]
    assert [row["reason"] for row in rows] == [None, None]
    places = text_places(f"{folder}/*.txt", TEXT.kind)
    assert [os.path.basename(place["path"]) for place in places] == ["0.txt", "1.txt"]
    blocks = blocks_to_hash(SourceConfig("s", two), two, PAIR.kind)
    assert [hash_files(block)["path"].to_pylist() for block in blocks] == [["0.tar"], ["1.tar"]]
    before = identify(two, "--pair.source", PAIR.kind)
    (folder / "2.tar").write_bytes(b"another")
    assert identify(two, "--pair.source", PAIR.kind) == before
    assert identify(f"{folder}/*.tar", "--pair.source", PAIR.kind) != before
    moved = tmp_path / "moved"
    folder.rename(moved)
    assert identify(f"{moved}/{{0..1}}.tar", "--pair.source", PAIR.kind) == before
    with pytest.raises(UserError, match=r"--image.source \S+: not there: \S+/3.tar"):
        identify(f"{moved}/{{2..3}}.tar", "--image.source", IMAGE.kind)


def test_roots_of_patterns():
    assert root_of("s3://b/x/{0..9}.tar?region=a") == "s3://b/x?region=a"
    assert root_of("s3://b/cc12m/{00000..01242}.tar") == "s3://b/cc12m"
    assert root_of("data/part-*/x?.csv") == "data"
    assert root_of("s3://b/{a,b}/x.tar") == "s3://b"
    assert root_of("s3://b/a.tar") == "s3://b/a.tar"
    assert not is_pattern("s3://bucket/a.tar?endpoint_override=localhost:9000")


def test_weights_and_lists(folder):
    (folder / "list.txt").write_text("# two\nb/x.csv:0.5\n\ns3://c/d.tar  # the last\n")
    found = list(listed(["a.csv:2", "s3://b/c.tar", "hf://user/set@train", f"@{folder}/list.txt"]))
    assert found == [
        ("a.csv", 2.0),
        ("s3://b/c.tar", 1.0),
        ("hf://user/set@train", 1.0),
        (f"{folder}/b/x.csv", 0.5),
        ("s3://c/d.tar", 1.0),
    ]
    assert list(listed(["s3://b/a?endpoint_override=localhost:9000"])) == [
        ("s3://b/a?endpoint_override=localhost:9000", 1.0)
    ]
    assert list(listed(["s3://b/a?endpoint_override=http://localhost:9000:2.5"], 7)) == [
        ("s3://b/a?endpoint_override=http://localhost:9000", 2.5)
    ]
    assert list(listed(["hf://user/set:2024", "hf://user/set:c:2", "hf://user/set@train:3"])) == [
        ("hf://user/set:2024", 1.0),
        ("hf://user/set:c", 2.0),
        ("hf://user/set@train", 3.0),
    ]
    (folder / "odd:2").write_text("")
    assert list(listed([f"{folder}/odd:2"])) == [(f"{folder}/odd:2", 1.0)]


def test_lists_that_are_none_are_told(folder):
    for name, why in (("missing", "can't be read"), ("empty", "names none")):
        (folder / "empty").write_text("# nothing\n")
        with pytest.raises(UserError, match=why):
            list(listed([f"@{folder}/{name}"]))


def test_sources_have_names():
    assert names_of(["a.csv"]) == ["own"]
    places = ["x/a.csv", "s3://b/CC 12m/{0..9}.tar", "y/a.csv", "hf://user/a:c@train", "/"]
    assert names_of(places) == ["a", "cc-12m", "a-2", "a-3", "source"]
    assert names_of(["x/a-2.csv", "a", "b/a", "s3://b?region=c"]) == ["a-2", "a", "a-3", "b"]
