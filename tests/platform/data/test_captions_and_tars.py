"""Captions as people write them, tables that are not called so, and tars that can't be read."""

import io
import json
import os
import tarfile

import pyarrow as pa
import pyarrow.fs as pafs
import pytest
from test_inputs_people_have import laid_out, picture, prepared, rows

from momo_platform.data.readers.base import Ignored
from momo_platform.data.sources import identify
from momo_platform.stages import UserError
from pipelines.modalities import PAIR


def tar_of(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, raw in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return buffer.getvalue()


def test_each_line_of_a_caption_file_is_a_caption(tmp_path):
    five = "one dog\r\n\n two dogs\nthree\nfour\nfive\n"
    (row,) = prepared(laid_out(tmp_path / "a", {"a.png": picture(1), "a.txt": five}))
    assert row["captions"] == ["one dog", "two dogs", "three", "four", "five"]
    tar = tar_of({"a.png": picture(1), "a.txt": five.encode()})
    (row,) = prepared(laid_out(tmp_path / "b", {"x.tar": tar}))
    assert row["captions"] == ["one dog", "two dogs", "three", "four", "five"]
    (row,) = prepared(laid_out(tmp_path / "c", {"a.png": picture(1), "a.txt": "\n\n"}))
    assert row["reason"] == "the caption is empty"
    (row,) = prepared(laid_out(tmp_path / "d", {"a.png": picture(1), "a.txt": "x" * 20_000}))
    assert "10000 characters" in row["reason"] or "longer" in row["reason"]


@pytest.mark.parametrize("kind", ["text", "bytes", "struct"])
def test_a_column_of_json_gives_what_the_row_lacks(tmp_path, kind):
    known = {"caption": "a cat", "label": "cats", "split": "valid", "path": "/elsewhere/1.png"}
    value = known if kind == "struct" else json.dumps(known)
    value = value.encode() if kind == "bytes" else value
    alone = pa.table({"jpg": [picture(1)], "json": [value]})
    (row,) = rows(laid_out(tmp_path / "a", {"a.parquet": alone}))
    assert (row["captions"], row["label"], row["split"]) == (["a cat"], "cats", "valid")
    both = pa.table({"jpg": [picture(1)], "txt": ["a dog"], "json": [value]})
    (row,) = prepared(laid_out(tmp_path / "b", {"a.parquet": both}))
    assert (row["captions"], row["label"], row["reason"]) == (["a dog"], "cats", None)


def test_a_column_of_json_that_holds_none_costs_nothing_but_itself(tmp_path):
    table = pa.table({"jpg": [picture(1)] * 3, "json": ["{broken", "[1]", None]})
    found = prepared(laid_out(tmp_path, {"a.parquet": table}))
    assert {row["reason"] for row in found} == {"the caption is empty"}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("captions.txt", "image,caption\n1.jpg,A child\n", "call it captions.csv, and put it"),
        ("t.token.txt", "1.jpg#0\tA child\n", "call it t.token.tsv, give it a first line"),
        ("all.json", "[]", "of .json only .jsonl is read"),
    ],
)
def test_what_is_a_table_but_not_called_so_is_named(tmp_path, name, text, words):
    laid_out(tmp_path, {"Images/1.jpg": picture(1), name: text})
    with pytest.raises(UserError, match="none has its caption beside it") as told:
        identify(str(tmp_path), PAIR.kind.option, PAIR.kind)
    assert words in str(told.value)


def test_links_to_nothing_and_pipes_are_counted(tmp_path):
    laid_out(tmp_path, {"a.png": picture(1), "a.txt": "a cat"})
    (tmp_path / "b.png").symlink_to("/nowhere/b.png")
    os.mkfifo(tmp_path / "c.png")
    ignored = Ignored()
    assert [row["key"] for row in rows(tmp_path, "pair", ignored)] == ["a.png"]
    assert ignored.examples == {
        "a link to nothing": ["b.png"],
        "neither a file nor a folder": ["c.png"],
    }


def sparse(kind, pieces):
    """A tar whose picture `a.png` is stored sparse, and another one whole."""
    rest = tar_of({"b.png": picture(2), "b.txt": b"a dog"})
    info = tarfile.TarInfo("a.png")
    info.size = 512
    if kind == "pax":
        info.name = "GNUSparseFile.1/a.png"
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.name": "a.png"}
        return info.tobuf(tarfile.PAX_FORMAT) + bytes(512) + rest
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[482] = pieces > 4
    header[148:156] = b"%06o\0 " % (256 + sum(header[:148]) + sum(header[156:512]))
    more = max(0, -(-(pieces - 4) // 21))
    blocks = b"".join(bytes(504) + bytes([n < more - 1]) + bytes(7) for n in range(more))
    return bytes(header) + blocks + bytes(512) + rest


@pytest.mark.parametrize(("kind", "pieces"), [("gnu", 3), ("gnu", 9), ("gnu", 40), ("pax", 1)])
def test_a_member_that_is_stored_sparse_is_named_and_the_rest_read(tmp_path, kind, pieces):
    bad, good = rows(laid_out(tmp_path, {"x.tar": sparse(kind, pieces)}))
    assert (bad["key"], "stored sparse" in bad["reason"]) == ("x.tar:a.png", True)
    assert (good["key"], good["reason"]) == ("x.tar:b", None)


def test_a_tar_without_permission_costs_its_rows(tmp_path, monkeypatch):
    from momo_platform.data.readers import tar

    class Refusing:
        def open_input_file(self, path):
            if path.endswith("b.tar"):
                raise PermissionError(13, "Permission denied", path)
            return pafs.LocalFileSystem().open_input_file(path)

    monkeypatch.setattr(tar, "filesystem_of", lambda root: Refusing())
    whole = tar_of({"a.png": picture(1), "a.txt": b"a cat"})
    good, bad = rows(laid_out(tmp_path, {"a.tar": whole, "b.tar": whole}))
    assert (good["key"], good["reason"]) == ("a.tar:a", None)
    assert (bad["key"], bad["reason"][:22]) == ("b.tar", "the tar can't be read:")
