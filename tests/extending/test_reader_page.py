"""docs/extending/reader.md, followed."""

import importlib
import io
import re
import sys
import zipfile

import pyarrow as pa
import pytest
from extending.pages import PAGES, lay_out
from PIL import Image

from momo_platform.data import readers
from momo_platform.data.config import SourceConfig
from momo_platform.data.digests import blocks_to_hash
from momo_platform.data.images import ImageConfig
from momo_platform.data.listing import ROW_SCHEMA
from momo_platform.data.readers.base import Ignored
from momo_platform.data.rows import PrepareImages
from momo_platform.data.sources import identify, list_rows
from momo_platform.stages import UserError
from pipelines.evaluation.given import given_tasks
from pipelines.evaluation.loaders import load_given
from pipelines.modalities import IMAGE, PAIR

PAGE = "reader.md"
LINE = re.compile(r'^```text\n    "(\w+)",\n```$', re.M)


@pytest.fixture(autouse=True)
def written(tmp_path, monkeypatch):
    """The page's file where it would be, and its line in the registry."""
    (file,) = lay_out(PAGE, tmp_path / "page")
    monkeypatch.setattr(readers, "__path__", [*readers.__path__, str(file.parent)])
    importlib.invalidate_caches()
    (name,) = LINE.findall((PAGES / PAGE).read_text(encoding="utf-8"))
    module = importlib.import_module(f"{readers.__name__}.{name}")
    monkeypatch.setattr(readers, "READERS", (module.READER, *readers.READERS))
    yield
    sys.modules.pop(module.__name__, None)


def png(number, kind="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", (12, 10), (number, 0, 9)).save(buffer, kind)
    return buffer.getvalue()


def archive(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, raw in members.items():
            file.writestr(name, raw)
    return path


def prepared(path, kind, ignored=None):
    rows = list_rows(SourceConfig("s", str(path)), str(path), kind, ignored=ignored)
    schema = ROW_SCHEMA.append(pa.field("reason", pa.string()))
    block = pa.Table.from_pylist(list(rows), schema=schema)
    blocks = PrepareImages(ImageConfig(size_cap=8), kind is PAIR.kind)(block)
    return [row for prepared in blocks for row in prepared.to_pylist()]


def test_pictures_of_an_archive_become_rows_with_captions_and_classes(tmp_path):
    members = {f"{name}/{i}.png": png(i) for i, name in enumerate(("cat", "cat", "dog"))}
    members |= {"cat/0.txt": "a cat", "cat/1.txt": "é".encode("utf-16"), "dog/2.txt": b"\xff\xff"}
    ignored = Ignored()
    members |= {"__MACOSX/cat/._0.png": b"", "notes.doc": b""}
    path = archive(tmp_path / "a.zip", members)
    found = {row["key"]: row for row in prepared(path, PAIR.kind, ignored)}
    assert {key: row["captions"] for key, row in found.items()} == {
        "a.zip:cat/0.png": ["a cat"],
        "a.zip:cat/1.png": ["é"],
        "a.zip:dog/2.png": [],
    }
    assert [row["label"] for row in found.values()] == ["cat", "cat", "dog"]
    assert found["a.zip:dog/2.png"]["reason"] == "the caption is not UTF-8"
    assert ignored.counts == {"hidden": 1, "not read: .doc": 1}
    red = Image.open(io.BytesIO(found["a.zip:cat/1.png"]["image"])).getpixel((0, 0))
    assert red == (1, 0, 9)


def test_what_is_damaged_costs_its_row_or_is_named(tmp_path):
    path = archive(tmp_path / "a.zip", {f"{i}.png": png(i) for i in range(3)})
    with zipfile.ZipFile(path) as file:
        place = file.infolist()[1].header_offset + 50
    raw = bytearray(path.read_bytes())
    raw[place : place + 8] = bytes(8)
    path.write_bytes(raw)
    reasons = [row["reason"] for row in prepared(path, IMAGE.kind)]
    assert [bool(reason) for reason in reasons] == [False, True, False]
    assert "damaged" in reasons[1]
    path.write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"a.zip is not a readable zip: .*replace it"):
        prepared(path, IMAGE.kind)


def test_its_neighbours_are_counted_and_its_file_is_hashed(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    archive(folder / "a.zip", {"0.png": png(0)})
    (folder / "b.png").write_bytes(png(1))
    ignored = Ignored()
    assert [row["key"] for row in prepared(folder, IMAGE.kind, ignored)] == ["a.zip:0.png"]
    assert ignored.examples == {"beside .zip, which alone is read: .png": ["b.png"]}
    assert len(identify(str(folder), "--image.source", IMAGE.kind)) == 16
    (block,) = blocks_to_hash(SourceConfig("s", str(folder)), str(folder), IMAGE.kind)
    assert block["path"].to_pylist() == [str(folder / "a.zip")]


def test_it_is_a_task_of_the_command_line(tmp_path):
    members = {f"{name}/{i}.png": png(i) for i in range(20) for name in ("cat", "dog")}
    (task,) = given_tasks([f"mine={archive(tmp_path / 'a.zip', members)}"])
    assert task.protocol == "linear_probe"
    items = load_given(task.given.loader, task.given.uri)
    assert (len(items.labels), items.class_names) == (40, ("cat", "dog"))
    assert items.pictures.open(items.pictures.items[3]).size == (12, 10)
