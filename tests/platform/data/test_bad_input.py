"""Corpora as the world has them: whatever is in a file, it costs its own row and no more."""

import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from preparing import Folder

from momo_platform.data import encodings, text
from momo_platform.data.config import PrepareConfig
from momo_platform.data.images import BadImage, ImageConfig, prepare_image
from momo_platform.data.listing import ROW_SCHEMA
from momo_platform.data.merge import QUARANTINE
from momo_platform.data.rows import PrepareImages, PrepareText
from momo_platform.data.sources import SourceConfig, list_rows, text_places
from momo_platform.data.text import (
    LONGEST_CAPTION,
    BadText,
    clean_caption,
    lines,
    normalise,
    parse_json,
)
from momo_platform.stages import UserError
from pipelines.modalities import MODALITIES, TEXT
from pipelines.modalities.image import run_prepare_image
from pipelines.modalities.pair import run_prepare_pair
from pipelines.modalities.text import run_prepare_text

CONFIG = ImageConfig(size_cap=16)
LARGEST_MB = 300  # of a process that lists and prepares the hostile corpora; 168 were measured
ROOT = Path(__file__).parents[3]


def encoded(mode="RGB", colour="red", kind="PNG", size=(20, 16), **options):
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, kind, **options)
    return buffer.getvalue()


def png(width, height, lines_of_pixels):
    """A greyscale PNG by hand: its header may promise anything."""

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packer, packed = zlib.compressobj(9), b""
    for _ in range(lines_of_pixels):
        packed += packer.compress(bytes(width + 1))
    packed += packer.flush()
    parts = chunk(b"IHDR", header), chunk(b"IDAT", packed), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def animated():
    frames = [Image.new("P", (20, 16), i) for i in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(kind="JPEG", exif=exif)


def palette():
    buffer = io.BytesIO()
    picture = Image.new("P", (20, 16), 1)
    picture.putpalette([255, 255, 255, 200, 0, 0])
    picture.save(buffer, "PNG", transparency=1)
    return buffer.getvalue()


GOOD = {
    "animated.gif": animated(),
    "deep.png": encoded("I;16", 40_000),
    "cmyk.jpg": encoded("CMYK", (0, 255, 255, 0), "JPEG"),
    "palette.png": palette(),
    "turned.jpg": turned(),
    "really-a-png.jpg": encoded(),
    "really-a-webp.PNG": encoded(kind="WEBP"),
    "bits.png": encoded("1", 1),
}
BAD = {
    "cut.png": (encoded(size=(200, 200))[:90], "truncated"),
    "cut.jpg": (encoded(size=(200, 200), kind="JPEG")[:700], "truncated"),
    "nothing.webp": (b"", "empty"),
    "words.bmp": (b"words, not a picture", "known format"),
    "noise.gif": (os.urandom(5000), "known format"),
    "noise.svg": (b"\xff\x00<svg", "readable SVG"),
    "vector.png": (b"<svg", "readable SVG"),
    "script.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "known format"),
    "bomb.png": (png(30_000, 30_000, 30_000), "too many pixels"),
    "promise.png": (png(60_000, 60_000, 1), "too many pixels"),
}


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, raw in members:
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))


def hostile_folder(folder):
    folder.mkdir()
    for name, raw in GOOD.items():
        (folder / name).write_bytes(raw)
    for name, (raw, _) in BAD.items():
        (folder / name).write_bytes(raw)
    return folder


def hostile_pairs(folder):
    """A JSONL file, and the reason (None: usable) of each of its rows."""
    folder.mkdir()
    (folder / "a.png").write_bytes(encoded())
    os.mkfifo(folder / "pipe.png")
    os.symlink("loop.png", folder / "loop.png")
    rows = [
        ({"image": "a.png", "caption": "a\0b \0"}, None),
        ({"image": "a.png", "caption": "word " * 200_000}, "longer than 10000"),
        ({"image": "a.png", "captions": ["x" * 10**6, "short enough"]}, None),
        ({"image": "a.png", "captions": {"a": 1}}, "an object, not text"),
        ({"image": "a.png", "caption": "\u200b\u0001"}, "empty"),
        ({"image": "a\0.png", "caption": "one"}, "opened"),
        ({"image": "x" * 300 + ".png", "caption": "one"}, "opened"),
        ({"image": "pipe.png", "caption": "one"}, "not a regular file"),
        ({"image": "loop.png", "caption": "one"}, ""),
        ({"image": "../../../../nothing/here.png", "caption": "one"}, "does not exist"),
        ({"image": "gopher://x/a.png", "caption": "one"}, "opened"),
        ({"image": ["a.png"], "caption": "one"}, "names no picture"),
        ({"image": "a.png", "caption": "one", "split": "s" * 10**6}, "unknown split"),
    ]
    raw = [json.dumps(row).encode() for row, _ in rows]
    raw += [
        b'{"image": "a.png", "caption": "\xff"}',
        b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ]
    (folder / "rows.jsonl").write_bytes(b"\n".join(raw) + b"\n")
    return folder / "rows.jsonl", [r for _, r in rows] + ["UTF-8", "no JSON", "no JSON"]


def prepared(path, kind):
    found = list(list_rows(SourceConfig("s", str(path)), str(path), MODALITIES[kind].kind))
    schema = ROW_SCHEMA.append(pa.field("reason", pa.string()))
    block = pa.Table.from_pylist(found, schema=schema)
    return pa.concat_tables(PrepareImages(CONFIG, kind == "pair")(block)).to_pylist()


def documents(path):
    places = [{"source": "s"} | place for place in text_places(str(path), TEXT.kind)]
    blocks = PrepareText(1)(pa.Table.from_pylist(places))
    return [row for block in blocks for row in block.to_pylist()]


def test_every_picture_is_kept_or_has_its_reason(tmp_path):
    found = {row["key"]: row for row in prepared(hostile_folder(tmp_path / "in"), "image")}
    assert found.keys() == GOOD.keys() | BAD.keys()
    assert [k for k in GOOD if found[k]["reason"]] == []
    for name, (_, reason) in BAD.items():
        assert reason in found[name]["reason"], (name, found[name]["reason"])

    def pixel(name):
        picture = Image.open(io.BytesIO(found[name]["image"]))
        return picture.size, picture.getpixel((3, 3))

    assert pixel("turned.jpg")[0] == (16, 20)
    assert pixel("palette.png")[1] == (255, 255, 255)
    assert pixel("deep.png")[1] == (156,) * 3
    red, green, _ = pixel("cmyk.jpg")[1]
    assert red > 200
    assert green < 60


def test_every_pair_is_kept_or_has_its_reason(tmp_path):
    path, reasons = hostile_pairs(tmp_path / "in")
    found = prepared(path, "pair")
    assert len(found) == len(reasons)
    for row, reason in zip(found, reasons, strict=True):
        assert (row["reason"] is None) if reason is None else reason in row["reason"], row["key"]
        assert all(len(c) <= LONGEST_CAPTION for c in row["captions"])
        assert len(row["reason"] or "") < 1000
    assert found[0]["captions"] == ["a b"]
    assert found[2]["captions"] == ["short enough"]


def test_captions_beside_pictures(tmp_path):
    for name, caption in {"a": b"x" * 10**6, "b": b"\xff\xfe", "c": b"good"}.items():
        (tmp_path / f"{name}.png").write_bytes(encoded())
        (tmp_path / f"{name}.txt").write_bytes(caption)
    a, b, c = prepared(tmp_path, "pair")
    assert "longer than" in a["reason"]
    assert b["reason"] == "the caption is not UTF-8"
    assert c["reason"] is None


def test_a_csv_with_long_fields_short_rows_and_nul(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded())
    rows = [
        "image,caption",
        f"a.png,{'y' * 10**6}",
        "a.png",
        "a.png,o\0ne,extra,more",
        ",",
        "a.png,two",
    ]
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    found = prepared(tmp_path / "rows.csv", "pair")
    assert [bool(row["reason"]) for row in found] == [True, True, True, True, False]


def bad_strings(*values):
    return pa.array([len(values) and v for v in values], pa.binary()).view(pa.string())


def test_parquet_with_strings_that_are_not_utf8_and_damaged_pages(tmp_path):
    images = pa.array([encoded(colour=(i, 0, 0)) for i in range(3)], pa.binary())
    table = pa.table({"image": images, "caption": bad_strings(b"one", b"\xff\xfe", b"three")})
    pq.write_table(table, tmp_path / "rows.parquet")
    found = prepared(tmp_path / "rows.parquet", "pair")
    assert [row["reason"] for row in found] == [None, "the row is not UTF-8", None]
    pq.write_table(
        pa.table({"text": bad_strings(b"one", b"\xff", b"three")}), tmp_path / "t.parquet"
    )
    assert [r["reason"] for r in documents(tmp_path / "t.parquet")] == [
        None,
        "the row is not UTF-8",
        None,
    ]
    raw = bytearray((tmp_path / "rows.parquet").read_bytes())
    raw[4:40] = os.urandom(36)  # the first page's header
    (tmp_path / "damaged.parquet").write_bytes(raw)
    found = prepared(tmp_path / "damaged.parquet", "pair")
    assert {row["reason"].split(":")[0] for row in found} <= {
        "the table is damaged",
        "the row is not UTF-8",
    }
    (tmp_path / "cut.parquet").write_bytes(raw[:200])
    with pytest.raises(UserError, match=r"cut.parquet is not readable Parquet"):
        prepared(tmp_path / "cut.parquet", "pair")


def test_text_of_any_bytes(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"good\n\xff\xfe\n\0\0\n" + b"z" * 10**6)
    (tmp_path / "b.txt").write_bytes(b"")
    (tmp_path / "c.jsonl").write_bytes(b'{"text": 1}\n[1]\n{"text": "yes"}\n' + b"[" * 9999)
    reasons = {row["key"]: row["reason"] for row in documents(tmp_path)}
    assert [k for k, r in reasons.items() if r is None] == ["a.txt:1", "a.txt:4", "c.jsonl:3"]
    assert len(reasons) == 8


def test_a_line_without_end_is_refused_not_kept(monkeypatch):
    monkeypatch.setattr(text, "LONGEST_LINE", 2**21)
    monkeypatch.setattr(encodings, "_CHUNK", 2**20)
    stream = pa.BufferReader(b'{"a": 1}\n' + b"x" * 2**23 + b"\n" + b'{"a": 2}\n')
    first, second, third = lines(stream)
    assert len(second) <= 2**21 + 2
    assert "longer than 2 MB" in parse_json(second)
    assert (parse_json(first), parse_json(third)) == ({"a": 1}, {"a": 2})


def test_a_file_name_that_is_not_utf8_is_named(tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).write_bytes(encoded())
    with pytest.raises(UserError, match=r"a file's name is not UTF-8 .*xff.*rename"):
        prepared(tmp_path, "image")


_KINDS = ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "ICO"]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(_KINDS),
    st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=6)), max_size=5),
    st.integers(0, 500),
)
def test_damaged_pictures_are_decoded_or_refused(kind, changes, cut):
    raw = bytearray(encoded(kind=kind))
    for place, new in changes:
        place %= len(raw)
        raw[place : place + len(new)] = new
    try:
        result = prepare_image(bytes(raw[: len(raw) - cut] if cut < len(raw) else raw), CONFIG)
    except BadImage:
        return
    assert result[:4] == b"\x89PNG"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_noise_is_no_picture(raw, svg):
    with pytest.raises(BadImage):
        prepare_image(raw, CONFIG, svg=svg)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_captions_are_clean_and_stay_so(text):
    assert normalise(normalise(text)) == normalise(text)
    try:
        cleaned = clean_caption(text)
    except BadText:
        return
    assert cleaned == cleaned.strip()
    assert not set(cleaned) & set("\0\n\r\t\u200b\ufeff")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_a_line_is_an_object_or_a_reason(raw):
    assert isinstance(parse_json(raw), dict | str)


@settings(max_examples=25, deadline=None)
@given(
    st.binary(max_size=2000),
    st.sampled_from(["tar", "jsonl", "csv", "tsv", "parquet", "png", "txt"]),
)
def test_random_bytes_under_any_name(tmp_path_factory, raw, ending):
    folder = tmp_path_factory.mktemp("noise")
    (folder / f"x.{ending}").write_bytes(raw)
    for read in (
        lambda: prepared(folder, "image"),
        lambda: prepared(folder, "pair"),
        lambda: documents(folder),
    ):
        problem, rows = None, []
        try:
            rows = read()
        except UserError as error:
            problem = str(error)
        assert problem is None or str(folder) in problem
        assert all(row["reason"] or row.get("text") for row in rows)


_MEASURED = """
import sys
sys.path[:0] = sys.argv[4:]
from pathlib import Path
import test_bad_input as t
for kind, path in (("image", sys.argv[1]), ("pair", sys.argv[2]), ("pair", sys.argv[3])):
    print(len(t.prepared(Path(path), kind)))
# Not `ru_maxrss`, which a new program inherits from the process that started it.
status = Path("/proc/self/status").read_text()
print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""


def test_memory_stays_bounded(tmp_path):
    pictures, pairs = hostile_folder(tmp_path / "pictures"), tmp_path / "pair"
    pairs.mkdir()
    (pairs / "a.png").write_bytes(encoded())
    long = {"image": "a.png", "caption": "word " * 200_000}
    with (pairs / "rows.jsonl").open("w") as file:
        for _ in range(300):  # 300 MB
            file.write(json.dumps(long) + "\n")
    tar = tmp_path / "large.tar"
    with tar.open("wb") as file:  # two members of 400 MB, with holes for their bytes
        for name in ("a.png", "a.txt", "b.png"):
            info = tarfile.TarInfo(name)
            info.size = 400 * 2**20 if name[0] == "a" else 100
            file.write(info.tobuf())
            file.seek(-(-info.size // 512) * 512, os.SEEK_CUR)
        file.truncate()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, pictures, pairs, tar, Path(__file__).parent, *sys.path],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    *counts, megabytes = map(int, done.stdout.split())
    assert counts == [len(GOOD) + len(BAD), 300, 2]
    assert megabytes < LARGEST_MB, megabytes


def test_hostile_corpora_through_ray(ray_local, tmp_path):
    def run(function, path, kept, quarantined):
        out = Folder(tmp_path / f"out-{function.__name__}-{path.name}")
        config = PrepareConfig((SourceConfig("s", str(path)),), CONFIG, 0.99, min_text_length=1)
        metrics = function(config, {}, out.context)
        rows = pq.read_table(out.path / QUARANTINE).to_pylist()
        assert (metrics["kept"] + metrics["duplicates"], len(rows)) == (kept, quarantined)
        assert all(row["key"] and row["reason"] for row in rows)
        return {row["key"] for row in rows}

    folder = hostile_folder(tmp_path / "pictures")
    assert run(run_prepare_image, folder, len(GOOD), len(BAD)) == BAD.keys()
    path, reasons = hostile_pairs(tmp_path / "pair")
    usable = reasons.count(None)
    run(run_prepare_pair, path, usable, len(reasons) - usable)
    tars = tmp_path / "tars"
    tars.mkdir()
    members = [
        ("a.png", encoded()),
        ("a.txt", b"one\0 two"),
        ("../b.png", encoded()),
        ("b.txt", b"\xff"),
    ]
    write_tar(tars / "a.tar", [*members, ("c.png", encoded()), ("c.txt", b"x" * 10**6)])
    (tars / "b.tar").write_bytes(b"")
    (tars / "c.tar").write_bytes(os.urandom(2000))
    bad = {"a.tar:../b.png", "a.tar:b", "a.tar:c", "b.tar", "c.tar"}
    assert run(run_prepare_pair, tars, 1, 5) == bad
    assert run(run_prepare_text, tars, 2, 4) == {"a.tar:../b.png", "a.tar:b", "b.tar", "c.tar"}
