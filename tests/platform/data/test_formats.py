"""Pictures, text and sources as people have them, broken ones among them."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from PIL import Image

from momo_platform.data import filesystems
from momo_platform.data.filesystems import read_file
from momo_platform.data.images import BadImage, ImageConfig, prepare_image
from momo_platform.data.packages import Requirement, fetch
from momo_platform.data.readers.files import PlainFiles
from momo_platform.data.readers.tables import read_embedded
from momo_platform.data.sources import SourceConfig, identify, list_rows, text_places
from momo_platform.data.text import BadText, clean_caption, lines, normalise
from momo_platform.stages import UserError
from pipelines.modalities import IMAGE, MODALITIES, PAIR, TEXT

CONFIG = ImageConfig(size_cap=32)


def encoded(size=(64, 48), mode="RGB", colour="red", kind="PNG", **options):
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, kind, **options)
    return buffer.getvalue()


def opened(raw):
    return Image.open(io.BytesIO(raw))


def test_pictures_are_capped_on_white_and_never_scaled_up():
    assert opened(prepare_image(encoded(), CONFIG)).size == (43, 32)
    assert opened(prepare_image(encoded((10, 8)), CONFIG)).size == (10, 8)
    clear = opened(prepare_image(encoded(mode="RGBA", colour=(0, 0, 0, 0)), CONFIG))
    assert clear.getpixel((5, 5)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_greyscale_is_scaled_not_clipped(mode):
    ramp = np.linspace(0, 65535, 64).reshape(8, 8)
    dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
    buffer = io.BytesIO()
    Image.fromarray(ramp.astype(dtype)).save(buffer, "PNG" if mode == "I;16" else "TIFF")
    values = np.asarray(opened(prepare_image(buffer.getvalue(), CONFIG)))[..., 0].ravel()
    expected = ramp.ravel() / 257.0
    assert np.abs(values - expected).max() <= 1.5


def test_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90°
    raw = encoded((40, 20), kind="JPEG", exif=exif)
    assert opened(prepare_image(raw, ImageConfig(size_cap=64))).size == (20, 40)


def test_malformed_metadata_does_not_stop_a_run():
    from PIL import PngImagePlugin

    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x829A] = 1.5  # exposure time: written as a ratio, read back as one that can't be packed
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20)).save(buffer, "JPEG", exif=exif)
    assert opened(prepare_image(buffer.getvalue(), ImageConfig(size_cap=64))).size == (20, 40)
    bomb = PngImagePlugin.PngInfo()
    bomb.add_text("comment", "x" * 2_000_000, zip=True)
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20)).save(buffer, "PNG", pnginfo=bomb)
    with pytest.raises(BadImage, match="damaged or truncated"):
        prepare_image(buffer.getvalue(), CONFIG)


def test_svg_is_rasterised():
    shape = b'<rect width="9" height="9"/>'
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">' + shape + b"</svg>"
    assert opened(prepare_image(svg, CONFIG, svg=True)).size == (32, 32)


@pytest.mark.parametrize(
    "raw, reason",
    [
        (b"", "empty"),
        (b"no picture at all", "known format"),
        (encoded((300, 300), kind="JPEG")[:400], "truncated"),
        (encoded((300, 300))[:100], "truncated"),
    ],
)
def test_broken_pictures_have_a_reason(raw, reason):
    with pytest.raises(BadImage, match=reason):
        prepare_image(raw, CONFIG)


def test_text(tmp_path):
    assert normalise("a\u0301  b\n\tc\x00") == "\u00e1 b c"
    (tmp_path / "a.txt").write_bytes(b"good\n\n\xff\xfe bad\nlast")
    (place,) = text_places(str(tmp_path), TEXT.kind)
    assert [(d.number, d.text) for d in PlainFiles().documents(place)] == [
        ("1", "good"),
        ("3", None),
        ("4", "last"),
    ]
    assert clean_caption(" <b>a red</b>  apple ") == "a red apple"
    for empty in ("", " ", "<br>", "...", None):
        with pytest.raises(BadText):
            clean_caption(empty)


def rows(folder, kind="pair"):
    return list(list_rows(SourceConfig("s", str(folder)), str(folder), MODALITIES[kind].kind))


def test_jsonl_csv_and_parquet_rows(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded())
    jsonl = tmp_path / "rows.jsonl"
    jsonl.write_bytes(
        json.dumps({"image": "a.png", "caption": "one"}).encode() + b"\n{broken\n\xff\n"
    )
    found = rows(jsonl)
    assert found[0]["path"] == str(tmp_path / "a.png")
    assert found[0]["captions"] == ["one"]
    assert "no JSON" in found[1]["reason"]
    assert "UTF-8" in found[2]["reason"]
    (tmp_path / "rows.csv").write_text("file_name,title\na.png,two\n")
    assert rows(tmp_path / "rows.csv")[0]["captions"] == ["two"]
    table = pa.table({"image": [{"bytes": encoded(), "path": "x"}], "captions": [["a", "b"]]})
    pq.write_table(table, tmp_path / "rows.parquet")
    found = rows(tmp_path / "rows.parquet")
    path, row = found[0]["path"], found[0]["row"]
    assert read_embedded(str(tmp_path), path, [row])[row][:4] == b"\x89PNG"
    assert found[0]["captions"] == ["a", "b"]


def test_folders(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.jpg").write_bytes(encoded(kind="JPEG"))
    (tmp_path / "in" / "b.txt").write_text("a red picture")
    (tmp_path / "a.PNG").write_bytes(encoded())
    assert [r["key"] for r in rows(tmp_path, "image")] == ["a.PNG", "in/b.jpg"]
    assert rows(tmp_path)[1]["captions"] == ["a red picture"]


def test_a_remote_corpus_keeps_its_file_system(tmp_path, monkeypatch):
    (tmp_path / "bucket" / "in").mkdir(parents=True)
    (tmp_path / "bucket" / "in" / "a.png").write_bytes(encoded())
    (tmp_path / "bucket" / "rows.csv").write_text("image,title\nin/a.png,one\n")
    (tmp_path / "bucket" / "rows.txt").write_text("words")

    def connect(uri):  # stands for an object store: its paths mean nothing on the local disk
        store = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
        return store, uri.removeprefix("store://")

    monkeypatch.setattr(filesystems, "open_uri", connect)
    for uri, kind in (("store://bucket/in", "image"), ("store://bucket/rows.csv", "pair")):
        (row,) = rows(uri, kind)
        assert read_file(row["root"], row["path"]) == encoded()
    path = text_places("store://bucket", TEXT.kind)[-1]["path"]
    assert read_file("store://bucket", path) == b"words"


def test_streamed_lines_are_those_of_the_whole(tmp_path):
    raw = b"one\r\ntwo\rthree\n\n" + b"x" * 3_000_000 + b"\nlast"
    (tmp_path / "a").write_bytes(raw)
    with pafs.LocalFileSystem().open_input_stream(str(tmp_path / "a")) as file:
        assert list(lines(file)) == raw.splitlines()


def test_a_missing_or_useless_source_names_option_path_and_remedy(tmp_path):
    with pytest.raises(UserError, match=r"--image.source .*no such.*give a folder"):
        identify(str(tmp_path / "none"), "--image.source", IMAGE.kind)
    with pytest.raises(UserError, match="empty"):
        identify(str(tmp_path), "--image.source", IMAGE.kind)
    (tmp_path / "x.bin").write_bytes(b"x")
    with pytest.raises(UserError, match="no picture"):
        rows(tmp_path, "image")


def test_a_table_without_the_needed_column_names_those_it_has(tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text("a;caption\na.png;a tree\n")
    source = SourceConfig("own", str(table))
    with pytest.raises(
        UserError, match=r"pairs.csv: no column with the picture, .*a;caption.*commas"
    ):
        list(list_rows(source, str(table), PAIR.kind))
    pq.write_table(pa.table({"image": ["a.png"], "words": ["a tree"]}), tmp_path / "p.parquet")
    with pytest.raises(UserError, match="no column with the caption; it has 'image, words'"):
        list(list_rows(source, str(tmp_path / "p.parquet"), PAIR.kind))


def test_identity_follows_content_not_place(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("words")
    import os

    os.utime(tmp_path / "one/a.txt", (1, 1))
    os.utime(tmp_path / "two/a.txt", (1, 1))
    same = [identify(str(tmp_path / n), "--text.source", TEXT.kind) for n in ("one", "two")]
    assert same[0] == same[1]
    (tmp_path / "two/a.txt").write_text("other words")
    assert identify(str(tmp_path / "two"), "--text.source", TEXT.kind) != same[0]


SIX = Requirement(
    "six", "1.17.0", "4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274"
)


def test_a_corrupt_cached_download_is_fetched_again(tmp_path):
    path = fetch([SIX], tmp_path)["six"]
    good = path.read_bytes()
    path.write_bytes(good[:-10])
    assert fetch([SIX], tmp_path)["six"].read_bytes() == good


def test_a_download_with_another_hash_is_refused(tmp_path):
    wrong = Requirement("six", "1.17.0", "0" * 64)
    with pytest.raises(UserError, match=r"six==1.17.0.*sha256"):
        fetch([wrong], tmp_path)


def test_an_unreachable_registry_is_one_line(tmp_path, monkeypatch):
    for name, value in {
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_NO_INDEX": "0",
        "PIP_FIND_LINKS": "",
        "PIP_RETRIES": "0",
        "PIP_CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"could not be fetched.*network") as error:
        fetch([SIX], tmp_path)
    assert "\n" not in str(error.value)


def test_rows_of_one_picture_share_a_group_and_splits_have_one_spelling(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded())
    lines = ["image,caption,split", "a.png,one,Validation", "a.png,two,", "a.png,three,holdout"]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    found = rows(tmp_path / "rows.csv")
    assert {r["group"] for r in found} == {"a.png"}
    assert [r["split"] for r in found] == ["valid", "", "holdout"]
    assert "unknown split" in found[2]["reason"]
