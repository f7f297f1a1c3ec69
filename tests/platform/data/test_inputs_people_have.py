"""Kinds of input that went wrong in silence or with a traceback: each kept right, or named."""

import io
import json
import os
import random
import subprocess
import sys
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from preparing import Folder

from momo_platform.data import contained
from momo_platform.data.artifacts import CARD, CARD_PAGE
from momo_platform.data.config import PrepareConfig
from momo_platform.data.filesystems import list_files
from momo_platform.data.images import BadImage, ImageConfig, prepare_image
from momo_platform.data.listing import ROW_SCHEMA
from momo_platform.data.readers.base import Ignored
from momo_platform.data.readers.tables import read_embedded
from momo_platform.data.rows import PrepareImages, PrepareText
from momo_platform.data.sources import SourceConfig, identify, list_rows, text_places
from momo_platform.data.text import BadText, clean_caption
from momo_platform.stages import UserError
from pipelines.modalities import MODALITIES, PAIR, TEXT
from pipelines.modalities.pair import run_prepare_pair
from pipelines.modalities.text import run_prepare_text

CONFIG = ImageConfig(size_cap=16)
ENCODINGS = ("utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")


def picture(number=0, kind="PNG", size=(20, 16), mode="RGB"):
    buffer = io.BytesIO()
    Image.new("RGB", size, (number, 0, 7)).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def laid_out(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pa.Table):
            pq.write_table(content, folder / name)
        else:
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def pictures(*names):
    return {name: picture(i) for i, name in enumerate(names)}


def rows(path, kind="pair", ignored=None):
    source = SourceConfig("s", str(path))
    return list(list_rows(source, str(path), MODALITIES[kind].kind, ignored=ignored))


def prepared(path, kind="pair"):
    schema = ROW_SCHEMA.append(pa.field("reason", pa.string()))
    block = pa.Table.from_pylist(rows(path, kind), schema=schema)
    return pa.concat_tables(PrepareImages(CONFIG, kind == "pair")(block)).to_pylist()


def captions(path):
    return {row["key"]: row["captions"] or row["reason"] for row in prepared(path)}


def documents(path, ignored=None):
    places = [{"source": "s"} | p for p in text_places(str(path), TEXT.kind, ignored)]
    table = pa.Table.from_pylist(places)
    return [row for block in PrepareText(1)(table) for row in block.to_pylist()]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_text_is_decoded_by_its_mark_or_by_its_zeros(tmp_path, encoding):
    text = "The first line\nA naïve second\n\nand a third one\n" * 40_000  # longer than one part
    expected = [line for line in text.splitlines() if line]
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert [row["text"] for row in documents(tmp_path)] == expected
    lines = "".join(json.dumps({"text": f"words {i}"}) + "\n" for i in range(3))
    (tmp_path / "b.jsonl").write_bytes(lines.encode(encoding))
    assert [r["text"] for r in documents(tmp_path / "b.jsonl")] == ["words 0", "words 1", "words 2"]
    pairs = laid_out(tmp_path / "pairs", pictures("a.png", "b.png"))
    (pairs / "a.txt").write_bytes("a naïve cat".encode(encoding))
    (pairs / "b.txt").write_bytes("a dog".encode(encoding))
    assert captions(pairs) == {"a.png": ["a naïve cat"], "b.png": ["a dog"]}
    (pairs / "rows.csv").write_bytes("image,caption\na.png,a naïve bird\n".encode(encoding))
    assert captions(pairs) == {"rows.csv:2": ["a naïve bird"]}
    assert identify(str(pairs), "--pair.source", PAIR.kind)


def test_text_in_a_damaged_encoding_is_refused_by_line(tmp_path):
    raw = "one good line\n".encode("utf-16") + b"\x00\xd8" + "\nanother".encode("utf-16-le") + b"x"
    (tmp_path / "a.txt").write_bytes(raw)
    assert [row["reason"] for row in documents(tmp_path)] == [
        None,
        "the line is not UTF-8",
        "the line is not UTF-8",
    ]


def test_an_encoding_that_can_not_be_told_is_refused_not_kept_in_pieces(tmp_path):
    text = "plain words 日本語のテキスト日本語のテキスト\n" * 50
    (tmp_path / "a.txt").write_bytes(text.encode("utf-16-le"))
    assert {row["reason"] for row in documents(tmp_path)} == {"the line is not UTF-8"}


@pytest.mark.parametrize(
    "line, words",
    [
        ('3.png,"text', "line 4: a quote is opened in it and never closed"),
        ('3.png,"a "dog" here"', "line 4"),
        ('3.png,"text\n5.png,"two words"', "line 4"),
        ('3.png,"text\n5.png,two words"', "line 4: a quote is opened in it and closed only after"),
    ],
)
def test_quotes_that_do_not_fit_are_refused_with_their_line(tmp_path, line, words):
    lines = ["image,caption", "1.png,a cat", '2.png,"a cat, a dog"', line]
    lines += [f"{i}.png,words" for i in range(6, 40)]
    laid_out(tmp_path, {"rows.csv": "\n".join(lines) + "\n"})
    with pytest.raises(UserError, match="not readable CSV") as error:
        rows(tmp_path)
    assert str(tmp_path / "rows.csv") in str(error.value)
    assert words in str(error.value)


def test_quoted_line_breaks_and_a_quote_within_words_are_kept(tmp_path):
    text = 'image,caption\n1.png,"a cat\nand ""a"" dog"\n2.png,a 5" screen\n'
    found = rows(laid_out(tmp_path, {"rows.csv": text}))
    assert [row["captions"] for row in found] == [['a cat\nand "a" dog'], ['a 5" screen']]


def test_a_tsv_is_read_as_it_stands(tmp_path):
    text = 'image\tcaption\n1.png\t"text\n2.png\tthe "old" dog, red\n3.png\t"he said ""yes"""\n'
    found = rows(laid_out(tmp_path, {"rows.TSV": text}))
    assert [r["captions"] for r in found] == [['"text'], ['the "old" dog, red'], ['he said "yes"']]


def test_a_line_with_more_fields_than_columns_is_refused(tmp_path):
    text = "image,caption\n1.png,a dog, and a cat\n2.png,a cat,,\n"
    first, second = rows(laid_out(tmp_path, {"rows.csv": text}))
    assert first["reason"].startswith("more fields than columns: 3 instead of 2 in line 2")
    assert (second["reason"], second["captions"]) == (None, ["a cat"])


def test_the_line_ends_of_old_systems(tmp_path):
    found = rows(laid_out(tmp_path, {"rows.csv": "image,caption\r1.png,a cat\r2.png,a dog\r"}))
    assert [row["captions"] for row in found] == [["a cat"], ["a dog"]]


@pytest.mark.parametrize(
    "text", ["image, caption\n1.png, a dog\n", "sep=;\nimage;caption\n1.png;a dog\n"]
)
def test_blanks_and_a_named_separator(tmp_path, text):
    (row,) = rows(laid_out(tmp_path, {"rows.csv": text}))
    assert (row["path"], row["captions"]) == (str(tmp_path / "1.png"), ["a dog"])


@pytest.mark.parametrize(
    "text, words",
    [
        ("image|caption\n1.png|a dog\n", "not by bars"),
        ("image\tcaption\n1.png\ta dog, a cat\n", "call the file .tsv"),
        ("image;caption\n1.png;a dog, a cat\n", "not by semicolons"),
        ("1.png,a dog\n2.png,a cat\n", "write a first line with the columns' names"),
        ("url,caption\nhttp://x/1.png,a dog\n", "img2dataset"),
        ("URL,caption\nhttp://x/1.png,a dog\n", "img2dataset"),
        ("image,caption,image\n1.png,a dog,2.png\n", "two columns are called 'image'"),
    ],
)
def test_what_a_table_lacks_is_said_with_its_remedy(tmp_path, text, words):
    laid_out(tmp_path, {"rows.csv": text})
    for look in (rows, lambda path: identify(str(path), "--pair.source", PAIR.kind)):
        with pytest.raises(UserError) as error:
            look(tmp_path)
        assert words in str(error.value)
        assert "rows.csv" in str(error.value)


def test_parquet_with_two_columns_of_a_name(tmp_path):
    table = pa.table([[b"x"], [b"y"], ["a"]], names=["image", "image", "caption"])
    laid_out(tmp_path, {"rows.parquet": table})
    with pytest.raises(UserError, match=r"rows.parquet: two columns are called 'image'"):
        rows(tmp_path)


def test_pictures_by_web_address_are_not_fetched_and_say_so(tmp_path):
    laid_out(tmp_path, {"rows.csv": "image,caption\nhttps://x.org/1.png,a dog\n"})
    assert captions(tmp_path / "rows.csv") == {"rows.csv:2": ["a dog"]}
    assert "fetch it with img2dataset" in prepared(tmp_path)[0]["reason"]


def test_everything_that_is_not_read_is_counted_and_named(tmp_path):
    tar = tmp_path / "stray.tar"
    with tarfile.open(tar, "w") as file:
        info = tarfile.TarInfo("0.png")
        info.size = len(picture())
        file.addfile(info, io.BytesIO(picture()))
    laid_out(tmp_path, pictures(*(f"{i:02d}.png" for i in range(30))))
    laid_out(tmp_path, {"more.tar.gz": b"x", ".DS_Store": b"", "._00.png": b"", "b/.x/1.png": b""})
    ignored = Ignored()
    assert [row["key"] for row in rows(tmp_path, "image", ignored)] == ["stray.tar:0"]
    assert ignored.counts == {
        "hidden": 3,
        "beside .tar, which alone is read: .png": 30,
        "compressed, decompress it: .gz": 1,
    }
    assert ignored.examples["beside .tar, which alone is read: .png"] == [
        "00.png",
        "01.png",
        "02.png",
    ]
    tar.unlink()
    laid_out(tmp_path, {"rows.csv": "image\n01.png\n02.png\n"})
    ignored = Ignored()
    assert len(rows(tmp_path, "image", ignored)) == 2
    assert ignored.counts["a picture that no table names"] == 28
    ignored = Ignored()
    documents(laid_out(tmp_path, {"a.txt": "words", "b.docx": b"x"}), ignored)
    assert ignored.counts["a picture that no table names"] == 0
    assert ignored.counts["not read: .docx"] == 1
    assert ignored.counts["not read: .png"] == 30


def test_hidden_files_are_no_data_and_the_rest_is_read(tmp_path):
    names = ("a.png", "._a.png", ".Trash-0/b.png", ".thumbnails/a.png", "__MACOSX/._a.png")
    laid_out(tmp_path, pictures(*names))
    laid_out(tmp_path, {"a.txt": "a cat", "._a.txt": b"\xff", "Thumbs.db": b"x"})
    assert captions(tmp_path) == {"a.png": ["a cat"]}
    assert [row["text"] for row in documents(tmp_path)] == ["a cat"]


def test_each_folder_is_read_once_whatever_links_lead_to_it(tmp_path):
    root = laid_out(tmp_path / "in", pictures("a.png", "b/c.png"))
    outside = laid_out(tmp_path / "outside", pictures("d.png"))
    for name, target in {"x": ".", "y": ".", "b/up": "..", "A": "b", "e": outside}.items():
        os.symlink(target, root / name)
    os.symlink("self", root / "self")
    os.symlink("nowhere", root / "dead")
    files = [file.path for file in list_files(str(root), "--image.source", "")]
    assert files == [str(root / name) for name in ("a.png", "b/c.png", "e/d.png")]


def test_what_decodes_is_read_and_the_rest_is_counted_by_ending(tmp_path):
    kinds = {".tif": "TIFF", ".tiff": "TIFF", ".jfif": "JPEG", ".jpe": "JPEG", ".jp2": "JPEG2000"}
    kinds |= {".ico": "ICO", ".ppm": "PPM", ".pgm": "PPM", ".dib": "DIB", ".avif": "AVIF"}
    laid_out(tmp_path, {f"a{ending}": picture(kind=kind) for ending, kind in kinds.items()})
    laid_out(tmp_path, {"a.heic": b"x", "b.heic": b"x"})
    ignored = Ignored()
    rows(tmp_path, "image", ignored)
    assert ignored.counts == {"not read: .heic": 2}
    found = prepared(tmp_path, "image")
    assert {row["key"]: row["reason"] for row in found} == {f"a{e}": None for e in kinds}
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for ending in kinds:
            tar.add(tmp_path / f"a{ending}", f"{ending[1:]}{ending}")
    assert [r["reason"] for r in prepared(tmp_path / "a.tar", "image")] == [None] * len(kinds)


def test_a_folder_of_what_is_not_read_says_what_is_there(tmp_path):
    laid_out(tmp_path, {"a.heic": b"x", "b.heic": b"x", "c.jsonl.gz": b"x"})
    with pytest.raises(UserError, match=r"no picture.*but 2 .heic, 1 .gz \(decompress them\)"):
        identify(str(tmp_path), "--image.source", MODALITIES["image"].kind)
    with pytest.raises(UserError, match=r"no .txt.*but 2 .heic, 1 .gz"):
        identify(str(tmp_path), "--text.source", TEXT.kind)


def test_case_of_endings_does_not_matter(tmp_path):
    laid_out(tmp_path / "a", {"ROWS.CSV": "image,caption\n1.PNG,a dog\n", "1.PNG": picture()})
    assert captions(tmp_path / "a") == {"ROWS.CSV:2": ["a dog"]}
    laid_out(tmp_path / "b", {"a.TXT": "a cat", "a.jpg": picture(kind="JPEG")})
    assert captions(tmp_path / "b") == {"a.jpg": ["a cat"]}
    files = {
        "NOTES.TXT": "one",
        "T.JSONL": '{"text": "two"}',
        "U.Parquet": pa.table({"text": ["3"]}),
    }
    texts = documents(laid_out(tmp_path / "c", files))
    assert [row["text"] for row in texts] == ["one", "two", "3"]


def test_tables_without_pictures_do_not_stop_a_folder(tmp_path):
    files = pictures("00000/0.jpg", "00000/1.jpg")
    files |= {"00000/0.txt": "a cat", "00000/1.txt": "a dog", "00000/0.json": "{}"}
    files["00000.parquet"] = pa.table({"url": ["http://x/0.jpg"], "key": ["0"], "caption": ["a"]})
    files |= {"00000_stats.json": "{}", "logs/metrics.csv": "step,loss\n1,2\n"}
    laid_out(tmp_path, files)
    assert identify(str(tmp_path), "--pair.source", PAIR.kind)
    ignored = Ignored()
    assert [row["captions"] for row in rows(tmp_path, "pair", ignored)] == [["a cat"], ["a dog"]]
    assert ignored.counts == {"a table without pictures": 2, "not read: .json": 2}
    laid_out(tmp_path, {"train.csv": "image,caption\n00000/0.jpg,a bird\n"})
    assert captions(tmp_path) == {"train.csv:2": ["a bird"]}


def test_of_many_tables_those_with_pictures_are_read(tmp_path):
    files = {f"{i}.csv": "step,loss\n1,2\n" for i in range(9)}
    laid_out(tmp_path, files | pictures("0.png") | {"9.csv": "image,caption\n0.png,a cat\n"})
    assert identify(str(tmp_path), "--pair.source", PAIR.kind)
    ignored = Ignored()
    assert [row["key"] for row in rows(tmp_path, "pair", ignored)] == ["9.csv:2"]
    assert ignored.counts == {"a table without pictures": 9}


def test_tables_of_one_name_in_two_folders_have_two_keys(tmp_path):
    for split in ("train", "test"):
        files = {"metadata.csv": f"file_name,text\n0.png,{split}\n", "0.png": picture(len(split))}
        laid_out(tmp_path / split, files)
    assert captions(tmp_path) == {
        "test/metadata.csv:2": ["test"],
        "train/metadata.csv:2": ["train"],
    }


@pytest.mark.parametrize(
    "caption, kept",
    [
        ("<PERSON> rides a horse", "<PERSON> rides a horse"),
        ("if a<b and c>d", "if a<b and c>d"),
        ("I <3 you > me", "I <3 you > me"),
        ("<unk> and <pad>", "<unk> and <pad>"),
        ("<b>a red</b> <i>apple</i><br/>here", "a red apple here"),
        ('<a href="x?a>b" class=y>a link</A>', '<a href="x?a>b" class=y>a link'),
        ('<a href="x">a link</A>', "a link"),
        ("🐈", "🐈"),
        ("🐈‍⬛ 💯", "🐈‍⬛ 💯"),
    ],
)
def test_captions_keep_what_is_no_html(caption, kept):
    assert clean_caption(caption) == kept


@pytest.mark.parametrize(
    "value, reason",
    [
        (5, "the caption is a number, not text: 5"),
        ({"raw": "a"}, "the caption is an object, not text: {'raw': 'a'}"),
        ([{"raw": "a"}], "the caption is an object, not text"),
        (None, "the caption is empty"),
        ("", "the caption is empty"),
        ("NaN", "the caption is empty: NaN"),
        ("null", "the caption is empty: null"),
        ("...", "the caption has no word: ..."),
    ],
)
def test_why_a_caption_is_none(tmp_path, value, reason):
    line = json.dumps({"image": "a.png", "caption": value}) + "\n"
    laid_out(tmp_path, {"a.png": picture(), "rows.jsonl": line})
    (row,) = prepared(tmp_path)
    assert row["reason"].startswith(reason)


def test_captions_of_bytes_and_pictures_without_a_text(tmp_path):
    table = pa.table({"image": [picture(i) for i in range(2)], "caption": [b"a cat", b"\xff"]})
    laid_out(tmp_path / "a", {"rows.parquet": table})
    assert [row["captions"] or row["reason"] for row in prepared(tmp_path / "a")] == [
        ["a cat"],
        "the caption is not UTF-8",
    ]
    laid_out(tmp_path / "b", pictures("0.png", "1.png") | {"1.txt": "a dog"})
    assert captions(tmp_path / "b") == {
        "0.png": "no caption lies beside the picture",
        "1.png": ["a dog"],
    }
    texts = documents(
        laid_out(tmp_path / "c", {"t.parquet": pa.table({"text": [b"one", b"\xff"]})})
    )
    assert [row["text"] or row["reason"] for row in texts] == ["one", "the text is not UTF-8"]


def test_an_empty_picture_column_gives_way_to_the_next(tmp_path):
    text = "image,path,caption\n,a.png,a cat\n,,a dog\n"
    laid_out(tmp_path, {"a.png": picture(), "rows.csv": text})
    assert captions(tmp_path)["rows.csv:2"] == ["a cat"]
    assert prepared(tmp_path)[1]["reason"] == "the row names no picture"


@pytest.mark.parametrize("names", [("jpg", "txt"), ("png", "txt"), ("webp", "caption")])
def test_names_of_webdataset_are_columns(tmp_path, names):
    table = pa.table({names[0]: [picture()], names[1]: ["a cat"]})
    (row,) = prepared(laid_out(tmp_path, {"rows.parquet": table}))
    assert (row["captions"], row["reason"]) == (["a cat"], None)


def test_pictures_named_within_a_struct(tmp_path):
    values = [
        {"bytes": None, "path": "a.png"},
        {"bytes": None, "path": f"file://{tmp_path}/a.png"},
        {"bytes": None, "path": "nosuch://b/a.jpg"},
        {"bytes": None, "path": None},
    ]
    table = pa.table({"image": values, "caption": ["a", "b", "c", "d"]})
    laid_out(tmp_path, {"rows.parquet": table, "a.png": picture()})
    reasons = [row["reason"] for row in prepared(tmp_path / "rows.parquet")]
    assert reasons[:2] == [None, None]
    assert "can't be opened" in reasons[2]
    assert reasons[3] == "the row names no picture"


def test_a_parquet_file_in_one_row_group_is_read_once_and_in_parts(tmp_path):
    count = 6000
    raw = [random.Random(i).randbytes(20_000) for i in range(count)]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"image": pa.array(raw, pa.binary())}), path, compression="none")
    code = (
        "import sys; from pathlib import Path; from momo_platform.data.readers import tables\n"
        "def most(): return int(Path('/proc/self/status').read_text()"
        ".partition('VmHWM:')[2].split()[0]) // 1024\n"
        "before, n = most(), 0\n"
        "for i in range(0, 6000, 64):\n"
        "    rows = range(i, min(i + 64, 6000))\n"
        "    n += sum(len(v) for v in tables.read_embedded('/', sys.argv[1], rows).values())\n"
        "read = Path('/proc/self/io').read_text().partition('rchar: ')[2].split()[0]\n"
        "print(n, most() - before, read)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert done.returncode == 0, done.stderr
    size, megabytes, read = map(int, done.stdout.split())
    assert size == count * 20_000
    assert megabytes < 180  # 133 here; the whole row group and its rows would be 240
    assert read < 1.5 * size + 10 * 2**20
    order = [5999, 5, 2000, 4, 0]
    assert read_embedded("/", str(path), order) == {i: raw[i] for i in order}


def test_row_groups_are_skipped_to(tmp_path):
    path = tmp_path / "rows.parquet"
    table = pa.table({"image": [str(i).encode() for i in range(1000)]})
    pq.write_table(table, path, row_group_size=70)
    for rows_ in ([999], [0, 999], [69, 70, 71, 139, 140], [500], [499, 3], [1000]):
        expected = {i: str(i).encode() if i < 1000 else None for i in rows_}
        assert read_embedded("/", str(path), rows_) == expected
    pq.write_table(pa.table({"image": [b"new"] * 3}), path)
    assert read_embedded("/", str(path), [2]) == {2: b"new"}


def test_classes_have_their_names_where_the_file_has_them(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["dog", "cat"])}
    )
    values = {"image": [{"bytes": picture(), "path": None}] * 2, "label": [1, 0]}
    data = datasets.Dataset.from_dict(values, features=features)
    data.to_parquet(tmp_path / "rows.parquet")
    data.save_to_disk(tmp_path / "saved")
    for place in (tmp_path / "rows.parquet", tmp_path / "saved"):
        assert [row["label"] for row in rows(place, "image")] == ["cat", "dog"]


def test_a_table_in_a_local_data_set_names_pictures_beside_it(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = laid_out(tmp_path / "in", {"train.csv": "image,caption\n0.png,a cat\n9.png,a dog\n"})
    laid_out(folder, pictures("0.png"))
    first, second = prepared(f"hf://{folder}")
    assert (first["captions"], first["reason"]) == (["a cat"], None)
    assert second["reason"] == f"the picture does not exist: {folder}/9.png"


@pytest.mark.parametrize(
    "splits, refused", [(("train", "testA"), True), (("train", "restval", "test"), True),
                        (("en", "de"), False), (("train", "validation", "test"), False)]
)  # fmt: skip
def test_splits_of_which_it_is_not_known_what_they_are_for(tmp_path, splits, refused):
    datasets = pytest.importorskip("datasets")
    one = datasets.Dataset.from_dict({"text": ["some words"], "image": ["a.png"], "caption": ["a"]})
    datasets.DatasetDict(dict.fromkeys(splits, one)).save_to_disk(tmp_path / "s")
    for read in (rows, documents):
        if refused:
            with pytest.raises(UserError, match=r"split (testA|restval) is neither.*@train"):
                read(tmp_path / "s")
        else:
            assert len(read(tmp_path / "s")) == len(splits)


SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">{}</svg>'
DEEP = SVG.format("<g>" * 400 + '<rect width="9" height="9"/>' + "</g>" * 400)
SLOW = SVG.format(
    '<filter id="a"><feTurbulence baseFrequency="0.1" numOctaves="3000000"/></filter>'
    '<rect filter="url(#a)" width="9" height="9"/>'
)
GOOD = SVG.format('<rect width="9" height="9" fill="#00ff00"/>')


def test_a_renderer_that_crashes_or_does_not_end_costs_one_row(tmp_path, monkeypatch):
    monkeypatch.setattr(contained, "SECONDS", 2)
    files = {"0.svg": GOOD, "1.svg": DEEP, "2.svg": GOOD, "3.svg": SLOW, "4.svg": GOOD}
    found = prepared(laid_out(tmp_path, files | {"5.svg": GOOD.encode("utf-16")}), "image")
    reasons = [row["reason"] for row in found]
    assert [bool(reason) for reason in reasons] == [False, True, False, True, False, False]
    assert "the decoder crashed (SIGSEGV)" in reasons[1]
    assert "longer than 2 s" in reasons[3]


def test_a_picture_that_needs_more_than_a_gigabyte_is_refused_unread():
    image = np.zeros((1, 1), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).resize((13_000, 13_000)).convert("1").save(buffer, "PNG")
    code = (
        "import sys; from pathlib import Path\n"
        "from momo_platform.data.images import *\n"
        "raw = sys.stdin.buffer.read()\n"
        "try: print(len(prepare_image(raw, ImageConfig(size_cap=16))) > 0)\n"
        "except BadImage as error: print(error)\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print(int(status.partition('VmHWM:')[2].split()[0]) // 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=buffer.getvalue(),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    said, megabytes = done.stdout.decode().split("\n")[:2]
    assert said == "True", done.stderr.decode()
    assert int(megabytes) < 1024
    wide = Image.new("RGBA", (9000, 9000))
    buffer = io.BytesIO()
    wide.save(buffer, "PNG", compress_level=1)
    with pytest.raises(BadImage, match="too many pixels: 9000×9000 in mode RGBA need 1.5 GB"):
        prepare_image(buffer.getvalue(), CONFIG)


def test_what_is_not_read_is_in_card_metrics_and_log(ray_local, tmp_path):
    folder = laid_out(tmp_path / "in", pictures(*(f"{i}.png" for i in range(40))))
    laid_out(folder, {f"{i}.txt": f"picture {i}" for i in range(40)} | {"a.heic": b"x"})
    out = Folder(tmp_path / "out")
    config = PrepareConfig((SourceConfig("s", str(folder)),), CONFIG)
    metrics = run_prepare_pair(config, {}, out.context)
    assert (metrics["kept"], metrics["ignored"]) == (40, {"not read: .heic": 1})
    card = json.loads((out.path / CARD).read_text())
    assert card["ignored"] == {
        "s": [{"reason": "not read: .heic", "files": 1, "examples": ["a.heic"]}]
    }
    assert "a.heic" in (out.path / CARD_PAGE).read_text()
    assert {"note": "1 file not read (1 × not read: .heic), for example a.heic"} in out.messages
    texts = laid_out(tmp_path / "texts", {"a.txt": "words " * 9, "b.pdf": b"x"})
    config = PrepareConfig((SourceConfig("s", str(texts)),), CONFIG)
    metrics = run_prepare_text(config, {}, Folder(tmp_path / "t").context)
    assert metrics["ignored"] == {"not read: .pdf": 1}


def test_bad_text_is_not_hidden_by_a_good_ending():
    with pytest.raises(BadText, match="float, not text"):
        clean_caption(1.5)
