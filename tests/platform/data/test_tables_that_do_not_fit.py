"""Tables with quotes that do not fit, damaged ones among good ones, and kinds of their columns."""

import os

import pyarrow as pa
import pytest
from test_inputs_people_have import documents, laid_out, picture, pictures, rows

from momo_platform.data import filesystems
from momo_platform.data.digests import blocks_to_hash
from momo_platform.data.filesystems import filesystem_of
from momo_platform.data.readers import line_ranges, table_rows, tables
from momo_platform.data.readers.base import Ignored
from momo_platform.data.sources import SourceConfig, identify
from momo_platform.data.splits import estimate_documents
from momo_platform.stages import UserError
from pipelines.modalities import PAIR


@pytest.mark.parametrize(
    "text",
    [
        'caption,image\na cat,1.png\n"a dog,2.png\na bird,3.png\na fish",4.png\n',
        'caption,image\na cat,1.png\n"a dog,2.png\na fish",4.png\n',
        'id,image,caption\n1,1.png,a cat\n2,2.png,"text\n3,3.png,a dog\n4,4.png,words"\n',
        'id,image,caption\n1,1.png,a cat\n2,"2.png\n3,3.png",words\n',
    ],
)
def test_rows_within_a_quote_are_found_wherever_the_picture_stands(tmp_path, text):
    with pytest.raises(UserError, match="line 3: a quote is opened in it and closed only after"):
        rows(laid_out(tmp_path, {"rows.csv": text}))


def test_a_quoted_list_that_reads_like_rows_costs_one_row(tmp_path):
    text = 'image,caption\n1.png,"see\nfoo.png, a file"\n2.png,a dog\n3.png,"a, b\nc, d"\n'
    first, *others = rows(laid_out(tmp_path, {"rows.csv": text}))
    assert first["reason"].startswith("line 2: a quote is opened in it and closed only after")
    assert [row["captions"] for row in others] == [["a dog"], ["a, b\nc, d"]]


UNRELATED = {
    "notes.csv": "nom,prix\ncaf\u00e9,3\n".encode("latin-1"),
    "stats.parquet": b"",
    "log.csv": 'a,b\n1,"x\n',
    "dup.csv": "a,a\n1,2\n",
}


@pytest.mark.parametrize("name", UNRELATED)
def test_an_unrelated_table_that_is_damaged_stops_nothing(tmp_path, name):
    plain = laid_out(tmp_path / "plain", {**pictures("a.png"), "a.txt": "a cat"})
    table = {"z.csv": "image,caption\nb.png,a dog\n", "b.png": picture()}
    for folder in (plain, laid_out(tmp_path / "tables", table)):
        laid_out(folder, {name: UNRELATED[name]})
        ignored = Ignored()
        assert len(rows(folder, "pair", ignored)) == 1
        assert ignored.counts == {"a table that can't be read": 1}
        assert identify(str(folder), "--pair.source", PAIR.kind)
        with pytest.raises(UserError, match="not readable|not UTF-8|two columns"):
            rows(folder / name)


def test_a_damaged_shard_among_several_is_one_row_with_its_reason(tmp_path):
    good = {f"{i}.png": picture(i) for i in range(3)}
    texts = {f"{i}.csv": f"image,caption\n{i}.png,caf\u00e9\n".encode() for i in range(3)}
    texts["1.csv"] = texts["1.csv"].decode().encode("latin-1")
    _, bad, _ = rows(laid_out(tmp_path / "csv", good | texts))
    assert (bad["key"], "is not UTF-8 at byte 23" in bad["reason"]) == ("1.csv", True)
    tables = {f"{i}.parquet": pa.table({"image": [picture(i)], "caption": ["a"]}) for i in range(3)}
    folder = laid_out(tmp_path / "parquet", tables)
    (folder / "1.parquet").write_bytes((folder / "1.parquet").read_bytes()[:-20])
    assert ["not readable" in (row["reason"] or "") for row in rows(folder)] == [False, True, False]
    assert identify(str(folder), "--pair.source", PAIR.kind)


def test_of_damaged_tables_alone_the_first_is_named(tmp_path):
    files = {"a.csv": b"image,caption\n\xff,b\n", "b.csv": b"image,caption\n\xff,b\n"}
    with pytest.raises(UserError, match="a.csv is not UTF-8"):
        rows(laid_out(tmp_path, files | pictures("1.png")))


def test_a_damaged_table_of_text_among_several_is_one_bad_document(tmp_path):
    files = {"a.txt": "one document\n", "p.PARQUET": b"PAR1 broken PAR1", "u.csv": b"text\n\xff\n"}
    found = documents(laid_out(tmp_path, files))
    assert [row["reason"] and row["reason"].split(" is ")[1][:12] for row in found] == [
        None,
        "not readable",
        "not UTF-8 at",
    ]
    infos = [str(tmp_path / name) for name in files]
    assert estimate_documents(filesystem_of(str(tmp_path)), infos) > 0
    with pytest.raises(UserError, match="not readable Parquet"):
        documents(tmp_path / "p.PARQUET")


@pytest.mark.parametrize(
    "name, text, reason",
    [
        ("b.csv", "image,caption\n" + "1.png,a dog, a cat\n" * 50, "more fields than columns"),
        ("b.jsonl", "broken\n" * 50, "the line is no JSON"),
    ],
)
def test_rows_of_a_shard_of_which_none_can_be_read_count(tmp_path, name, text, reason):
    files = {"a" + name[1:]: "image,caption\n1.png,a cat\n", **pictures("1.png"), name: text}
    if name == "b.jsonl":
        files["a.jsonl"] = '{"image": "1.png", "caption": "a cat"}\n'
    found = rows(laid_out(tmp_path, files))
    assert [row["reason"] is None for row in found] == [True] + [False] * 50
    assert found[1]["reason"].startswith(reason)


def test_eight_unrelated_tables_before_a_good_one(tmp_path):
    files = {f"a{i}.csv": "step,loss\n1,2\n" for i in range(8)}
    files["z.parquet"] = pa.table({"image": [picture()], "caption": ["a cat"]})
    assert [row["captions"] for row in rows(laid_out(tmp_path, files))] == [["a cat"]]
    assert identify(str(tmp_path), "--pair.source", PAIR.kind)


def test_a_utf_16_table_is_not_refused_for_where_its_beginning_is_cut(tmp_path):
    for length in range(131_068, 131_074):  # 2 bytes each, about where a look at 256 kB ends
        text = "image,caption\n1.png,a cat\n1.png,".ljust(length, "y") + "\U0001f600\n1.png,a dog\n"
        files = {"rows.csv": text.encode("utf-16"), "1.png": picture()}
        assert identify(str(laid_out(tmp_path, files)), "--pair.source", PAIR.kind)
        assert len(rows(tmp_path)) == 3


@pytest.mark.parametrize(
    "text, expected",
    [
        ('image\tcaption\n1.png\t"one\ntwo"\n2.png\ta dog\n', ["one\ntwo", "a dog"]),
        ('caption\timage\n"one\n\ntwo"\t1.png\na dog\t2.png\n', ["one\n\ntwo", "a dog"]),
        ('image\tcaption\r\n1.png\t"a\tb\r\nc"\r\n2.png\t5" wide\r\n', ["a\tb\nc", '5" wide']),
        ('image\tcaption\n1.png\t"a\tb ""c"""\n2.png\t"d\n', ['a\tb "c"', '"d']),
        ('image\tcaption\n1.png\t"words\n2.png\tmore"\n', ['"words', 'more"']),
    ],
)
def test_fields_of_tsv_quoted_with_tabs_and_line_breaks(tmp_path, text, expected):
    found = rows(laid_out(tmp_path, {"rows.tsv": text}))
    assert [row["captions"] for row in found] == [[caption] for caption in expected]
    assert [row["path"][-5:] for row in found] == ["1.png", "2.png"]


def refused(monkeypatch, module, name):
    """Files of this name can't be opened by the module: a test may run as root."""

    class Refusing:
        def __init__(self, filesystem):
            self.filesystem = filesystem

        def __getattr__(self, attribute):
            return getattr(self.filesystem, attribute)

        def open_input_stream(self, path):
            if path.endswith(name):
                raise PermissionError(13, "Permission denied", path)
            return self.filesystem.open_input_stream(path)

    monkeypatch.setattr(module, "filesystem_of", lambda root: Refusing(filesystem_of(root)))


def test_files_without_permission_have_a_reason(tmp_path, monkeypatch):
    refused(monkeypatch, filesystems, "b.txt")
    refused(monkeypatch, line_ranges, "b.txt")
    refused(monkeypatch, table_rows, "b.csv")
    refused(monkeypatch, tables, "b.csv")
    files = {**pictures("a.png", "b.png"), "a.txt": "a cat", "b.txt": "a dog"}
    good, bad = rows(laid_out(tmp_path / "pairs", files))
    assert good["reason"] is None
    assert "the caption can't be read" in bad["reason"]
    files = {"a.txt": "one document\n", "b.txt": "another one\n", "b.csv": "text\nwords\n"}
    found = {r["key"]: r["reason"] for r in documents(laid_out(tmp_path / "text", files))}
    assert found.pop("a.txt:1") is None
    assert all("Permission denied" in reason for reason in found.values())
    assert len(found) == 2


def test_hidden_files_are_not_hashed_and_hidden_folders_need_not_be_read(tmp_path, monkeypatch):
    laid_out(tmp_path, {"a.txt": "words", ".h/x.csv": "z", "._a.txt": "z", "lost+found/a": "z"})
    scan = os.scandir

    def scandir(folder):
        if folder.endswith("lost+found"):
            raise PermissionError(13, "Permission denied", folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    blocks = blocks_to_hash(SourceConfig("s", str(tmp_path)), str(tmp_path), PAIR.kind)
    assert [block.to_pylist()[0]["path"] for block in blocks] == [str(tmp_path / "a.txt")]
