"""WebDataset shards, whole and broken: what is read of them, and what is said of the rest."""

import io
import json
import tarfile

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from momo_platform.data.filesystems import read_spans
from momo_platform.data.images import ImageConfig
from momo_platform.data.listing import ROW_SCHEMA
from momo_platform.data.readers import tar
from momo_platform.data.readers.tar import BadTar, Member, walk
from momo_platform.data.rows import PrepareImages, PrepareText
from momo_platform.data.sources import SourceConfig, identify, list_rows, text_places
from pipelines.modalities import IMAGE, MODALITIES, TEXT


def picture(colour="red", kind="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", (20, 16), colour).save(buffer, kind)
    return buffer.getvalue()


def write_tar(path, members, **options):
    with tarfile.open(path, "w", **options) as tar:
        for name, raw in members:
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return path


def rows(path, kind="pair"):
    return list(list_rows(SourceConfig("s", str(path)), str(path), MODALITIES[kind].kind))


def reasons(path, kind="pair"):
    return {row["key"]: row["reason"] for row in rows(path, kind)}


def prepared(path, kind="pair"):
    schema = ROW_SCHEMA.append(pa.field("reason", pa.string()))
    block = pa.Table.from_pylist(rows(path, kind), schema=schema)
    return pa.concat_tables(
        PrepareImages(ImageConfig(size_cap=8), kind == "pair")(block)
    ).to_pylist()


def documents(path):
    places = [{"source": "s"} | place for place in text_places(str(path), TEXT.kind)]
    table = pa.Table.from_pylist(places)
    return [row for block in PrepareText(3)(table) for row in block.to_pylist()]


def test_captions_labels_and_splits_come_from_their_members(tmp_path):
    about = {"captions": ["one", "two"], "label": 3, "split": "val", "group": "g", "path": "x.jpg"}
    members = [
        ("README", b"no sample"),
        ("000.jpg", picture(kind="JPEG")),
        ("000.txt", b"a red picture"),
        ("000.cls", b"7\n"),
        ("d/001.JSON", json.dumps(about).encode()),
        ("d/001.png", picture("blue")),
        ("d/002.caption", b"a green one"),
        ("d/002.webp", picture("green", "WEBP")),
    ]
    path = write_tar(tmp_path / "a.tar", members)
    first, second, third = rows(path)
    assert (first["key"], first["captions"], first["label"]) == (
        "a.tar:000",
        ["a red picture"],
        "7",
    )
    assert (second["captions"], second["label"]) == (["one", "two"], "3")
    assert (second["split"], second["group"]) == ("valid", "g")
    assert third["group"] == "a.tar:d/002"
    place = (str(path), second["path"], second["offset"], second["size"])
    assert [*read_spans(*place[:2], [place[2:]])] == [picture("blue")]
    found = prepared(tmp_path)
    assert [r["reason"] for r in found] == [None] * 3
    assert {r["captions"][0] for r in found} == {"a red picture", "one", "a green one"}
    assert all(r["image"][:4] == b"\x89PNG" for r in found)


def test_only_small_members_are_read_when_a_shard_is_listed(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar", [("a.png", picture() * 9000), ("a.txt", b"words")])
    read = []
    original = tar._read

    def counted(file, member, largest):
        read.append(member.size)
        return original(file, member, largest)

    monkeypatch.setattr(tar, "_read", counted)
    assert rows(path)[0]["size"] == len(picture()) * 9000
    assert read == [5]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_of_tar_and_long_names(tmp_path, form):
    folder = "/".join(["é" * 10] * 6 if form != tarfile.USTAR_FORMAT else ["e" * 20] * 6)
    members = [(f"{folder}/{i}.png", picture()) for i in range(2)]
    path = write_tar(tmp_path / "a.tar", members, format=form)
    assert reasons(path, "image") == {f"a.tar:{folder}/{i}": None for i in range(2)}


def test_shards_written_by_webdataset_itself(tmp_path):
    wds = pytest.importorskip("webdataset")
    for shard in range(2):
        with wds.TarWriter(str(tmp_path / f"{shard}.tar")) as sink:
            for i in range(3):
                sink.write({"__key__": f"{i:03d}", "png": picture(), "txt": f"{shard} and {i}"})
    found = prepared(tmp_path)
    assert [r["key"] for r in found][:2] == ["0.tar:000", "0.tar:001"]
    assert [r["captions"] for r in found][-1] == ["1 and 2"]
    assert len({r["group"] for r in found}) == 6


def test_bad_samples_are_named_with_a_reason_and_the_others_kept(tmp_path):
    members = [
        ("a.png", picture()),
        ("a.txt", b"good"),
        ("b.txt", b"no picture"),
        ("c.png", picture()),
        ("d.png", picture()),
        ("d.txt", b"\xff\xfe"),
        ("e.png", picture()),
        ("e.json", b"{"),
        ("a.png", picture()),
        ("a.txt", b"again"),
        ("f.png", picture()),
        ("f.png", picture()),
        ("../../etc/g.png", picture()),
        ("/etc/h.png", picture()),
        ("i.png", picture()),
        ("i.txt", b"good too"),
    ]
    path = write_tar(tmp_path / "x.tar", members)
    found = [(r["key"], r["reason"]) for r in rows(path)]
    expected = [
        ("a", None),
        ("b", "no picture: txt"),
        ("c", "no caption"),
        ("d", "not UTF-8"),
        ("e", "e.json is no JSON"),
        ("a", "duplicate key"),
        ("f", "no caption"),
        ("f", "duplicate key"),
        ("../../etc/g.png", "leads out of the tar"),
        ("/etc/h.png", "leads out of the tar"),
        ("i", None),
    ]
    assert [key for key, _ in found] == [f"x.tar:{key}" for key, _ in expected]
    for (key, reason), (_, part) in zip(found, expected, strict=True):
        assert (reason is None) if part is None else part in reason, (key, reason)


def test_links_are_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in (("a.png", tarfile.SYMTYPE), ("b.png", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    assert all("link" in reason for reason in reasons(tmp_path, "image").values())
    assert len(reasons(tmp_path, "image")) == 2


def test_broken_shards_cost_what_is_broken(tmp_path):
    whole = [("a.png", picture()), ("a.txt", b"one"), ("b.png", picture()), ("b.txt", b"two")]
    raw = write_tar(tmp_path / "whole.tar", whole).read_bytes()
    (tmp_path / "cut.tar").write_bytes(raw[: 5 * 512 + 10])
    (tmp_path / "cut2.tar").write_bytes(raw[: 3 * 512 + 1])
    (tmp_path / "empty.tar").write_bytes(b"")
    (tmp_path / "zeros.tar").write_bytes(bytes(10240))
    (tmp_path / "words.tar").write_bytes(b"no tar at all " * 100)
    (tmp_path / "gzip.tar").write_bytes(b"\x1f\x8b" + b"\x08" * 1000)
    damaged = bytearray(raw)
    damaged[4 * 512 + 150] ^= 255
    (tmp_path / "damaged.tar").write_bytes(damaged)
    found = reasons(tmp_path)
    assert found["whole.tar:a"] is None
    assert "empty" in found["empty.tar"]
    assert "no sample" in found["zeros.tar"]
    assert found["words.tar"] == "not a tar"
    assert "gzip" in found["gzip.tar"]
    assert found["damaged.tar:a"] is None
    assert "damaged at byte" in found["damaged.tar"]
    assert {k: r for k, r in found.items() if k.startswith("cut")} == {
        "cut.tar:a": None,
        "cut.tar": "truncated in b.png",
        "cut2.tar:a": "truncated in a.txt",
    }


def test_a_shard_that_shrinks_after_the_listing_costs_its_rows(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.png", picture())])
    found = rows(path, "image")
    path.write_bytes(path.read_bytes()[:520])
    block = pa.Table.from_pylist(found, schema=ROW_SCHEMA)
    (row,) = pa.concat_tables(PrepareImages(ImageConfig(), False)(block)).to_pylist()
    assert "shorter" in row["reason"]


def test_text_documents(tmp_path):
    members = [
        ("a.txt", b"a document\nof two lines"),
        ("b.json", json.dumps({"text": "from json", "split": "test"}).encode()),
        ("c.json", b'{"words": 1}'),
        ("d.txt", b"\xff\xff\xff\xff"),
        ("e.json", b'{"text": "which", "split": "whatever"}'),
    ]
    write_tar(tmp_path / "a.tar", members)
    (tmp_path / "b.tar").write_bytes(b"")
    found = {row["key"]: row for row in documents(tmp_path)}
    assert found["a.tar:a"]["text"] == "a document of two lines"
    assert (found["a.tar:b"]["text"], found["a.tar:b"]["split"]) == ("from json", "test")
    assert "no text" in found["a.tar:c"]["reason"]
    assert "UTF-8" in found["a.tar:d"]["reason"]
    assert "unknown split" in found["a.tar:e"]["reason"]
    assert "empty" in found["b.tar"]["reason"]


def test_identity_follows_a_shards_change(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.png", picture())])
    before = identify(str(tmp_path), "--image.source", IMAGE.kind)
    write_tar(path, [("a.png", picture()), ("b.png", picture())])
    assert identify(str(tmp_path), "--image.source", IMAGE.kind) != before


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3})?\.[a-z]{1,3}", fullmatch=True),
            st.binary(max_size=900),
        ),
        max_size=6,
    ),
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_members_are_those_that_tarfile_finds(members, form):
    buffer = io.BytesIO()
    write_tar_to(buffer, members, form)
    with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as tar:
        expected = [Member(m.name, m.offset_data, m.size) for m in tar]
    assert list(walk(buffer, len(buffer.getvalue()))) == expected


def write_tar_to(buffer, members, form):
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, raw in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(raw), 1.5  # a fraction: a pax header
            tar.addfile(info, io.BytesIO(raw))


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=3000),
    st.lists(st.tuples(st.integers(0, 10_239), st.integers(0, 255)), max_size=8),
)
def test_damaged_bytes_end_in_a_reason_never_in_a_crash(noise, changes):
    buffer = io.BytesIO()
    write_tar_to(
        buffer, [("a.png", b"x" * 600), ("a.txt", b"one"), ("b.png", b"y")], tarfile.PAX_FORMAT
    )
    raw = bytearray(buffer.getvalue())
    for place, value in changes:
        raw[place] = value
    for data in (bytes(raw), noise, bytes(raw[: len(noise)])):
        try:
            found = list(walk(io.BytesIO(data), len(data)))
        except BadTar:
            continue
        assert all(m.offset + m.size <= len(data) for m in found)
