"""Large files of lines that several tasks read: each line once, whatever the cuts are."""

import json
import random

import pytest
from preparing import Folder

from momo_platform.data.config import PrepareConfig, SourceConfig
from momo_platform.data.readers import line_ranges, reader_at
from momo_platform.data.sources import text_places
from pipelines.modalities import TEXT
from pipelines.modalities.text import run_prepare_text


def documents(path):
    return [
        (document.number, document.text or document.reason)
        for place in text_places(str(path), TEXT.kind)
        for document in reader_at(place["root"], place["path"]).documents(place)
    ]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("kind", ["txt", "jsonl"])
def test_each_line_is_read_once(tmp_path, monkeypatch, kind, ending):
    generator = random.Random(3)
    texts = [f"{i} naïve " + "x" * generator.randrange(60) for i in range(400)]
    lines = texts if kind == "txt" else [json.dumps({"text": text}) for text in texts]
    raw = ending.join(lines).encode()
    path = tmp_path / f"a.{kind}"
    path.write_bytes(raw)
    whole = documents(path)
    assert [text for _, text in whole] == texts
    for size in (7, 100, 1000, len(raw) - 1, len(raw)):
        monkeypatch.setattr(line_ranges, "RANGE_BYTES", size)
        found = documents(path)
        assert [text for _, text in found] == texts
        names = [number for number, _ in found]
        assert len({*names}) == len(texts)
        assert all(int(name.partition(":")[0]) % size == 0 for name in names if ":" in name)
        if size == len(raw):
            assert found == whole
        begun = [place["start"] for place in text_places(str(path), TEXT.kind) if "start" in place]
        assert begun == ([] if size == len(raw) else [*range(0, len(raw), size)])


def test_other_encodings_and_marks(tmp_path, monkeypatch):
    monkeypatch.setattr(line_ranges, "RANGE_BYTES", 64)
    texts = [f"line number {i} of a file" for i in range(20)]
    for encoding in ("utf-16", "utf-32-le", "utf-8-sig"):
        (tmp_path / "a.txt").write_bytes("\n".join(texts).encode(encoding))
        assert [text for _, text in documents(tmp_path / "a.txt")] == texts
        divided = len(text_places(str(tmp_path), TEXT.kind)) > 1
        assert divided == (encoding == "utf-8-sig")


def test_a_divided_file_is_prepared_as_a_whole_one(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("".join(f"document number {i} of one file\n" for i in range(3000)) + "short\n")
    config = PrepareConfig((SourceConfig("s", str(path)),), held_out=None)
    whole, out = Folder(tmp_path / "whole"), Folder(tmp_path / "out")
    run_prepare_text(config, {}, whole.context)
    monkeypatch.setattr(line_ranges, "RANGE_BYTES", 10_000)
    metrics = run_prepare_text(config, {}, out.context)
    assert (metrics["kept"], metrics["quarantined"]) == (3000, 1)
    assert [row["text"] for row in out.rows()] == [row["text"] for row in whole.rows()]
    assert {row["key"].count(":") for row in out.rows()} == {1, 2}
