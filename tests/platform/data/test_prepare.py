"""Preparing on a real Ray: what is kept, what is quarantined, what never leaks."""

import hashlib
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from preparing import Folder, picture, sources, write_jsonl

from momo_platform.data.config import PrepareConfig
from momo_platform.data.digests import FILES
from momo_platform.data.merge import QUARANTINE
from momo_platform.stages import UserError
from pipelines.modalities.image import run_prepare_image
from pipelines.modalities.pair import run_prepare_pair
from pipelines.modalities.text import run_prepare_text


def test_broken_pictures_among_good_ones_are_quarantined(ray_local, tmp_path):
    corpus = tmp_path / "in"
    corpus.mkdir()
    for i in range(5):
        (corpus / f"{i}.png").write_bytes(picture(i))
    (corpus / "again.png").write_bytes(picture(3))
    (corpus / "cut.png").write_bytes(picture(9)[:60])
    (corpus / "nothing.png").write_bytes(b"")
    (corpus / "words.jpg").write_text("not a picture")
    out = Folder(tmp_path / "out")
    metrics = run_prepare_image(PrepareConfig(sources(corpus)), {}, out.context)
    assert {k: metrics[k] for k in ("read", "kept", "quarantined", "duplicates")} == {
        "read": 9,
        "kept": 5,
        "quarantined": 3,
        "duplicates": 1,
    }
    reasons = {row["key"]: row["reason"] for row in out.table(QUARANTINE)}
    assert reasons.keys() == {"cut.png", "nothing.png", "words.jpg"}
    assert "empty" in reasons["nothing.png"]
    files = {row["path"]: row["sha256"] for row in out.table(FILES)}
    assert files["0.png"] == hashlib.sha256(picture(0)).hexdigest()
    assert files.keys() == {f"{i}.png" for i in range(5)} | {
        *("again.png", "cut.png", "nothing.png", "words.jpg")
    }
    strict = PrepareConfig(sources(corpus), max_bad_fraction=0.1)
    with pytest.raises(UserError, match=r"image: 3 of 9 rows.*--image.max-bad-fraction"):
        run_prepare_image(strict, {}, Folder(tmp_path / "strict").context)


def test_pairs_keep_their_fields_and_say_what_is_wrong_with_the_rest(ray_local, tmp_path):
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "b.png").write_bytes(picture(2))
    rows = [
        {"image": "a.png", "captions": ["one", " two "], "label": 0, "group": "g", "split": "test"},
        {"image": "b.png", "caption": "<b>three</b>"},
        {"image": "b.png", "caption": ""},
        {"image": "none.png", "caption": "four"},
        {"image": "other.png", "caption": "five"},
        {"image": "http://localhost/x.png", "caption": "six"},
        {"image": "", "caption": "seven"},
        {"caption": "eight"},
        {"image": "b.png", "caption": "half a pair \ud800"},
    ]
    out = Folder(tmp_path / "out")
    config = PrepareConfig(
        sources(write_jsonl(tmp_path / "pairs.jsonl", rows)), max_bad_fraction=0.9
    )
    metrics = run_prepare_pair(config, {}, out.context)
    assert {row["path"] for row in out.table(FILES)} == {"pairs.jsonl", "a.png", "b.png"}
    first, second = sorted(out.rows(), key=lambda row: row["key"])
    assert first["captions"] == ["one", "two"]
    assert (first["group"], first["split"], first["label"]) == ("g", "test", "0")
    assert second["captions"] == ["three"]
    assert (second["split"], second["label"]) == ("train", "")
    assert metrics["quarantined"] == 7
    assert metrics["reasons"]["the picture does not exist"] == 2  # counted as one reason
    assert metrics["reasons"]["the line is not UTF-8"] == 1


def test_embedded_pictures_are_read_in_the_tasks(ray_local, tmp_path):
    count = 700
    raw = [{"bytes": picture(i), "path": None} for i in range(count)]
    raw[5] = {"bytes": None, "path": "beside.png"}
    raw[6] = {"bytes": None, "path": None}
    (tmp_path / "beside.png").write_bytes(picture(9000))
    captions = [f"number {i}" for i in range(count)]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"image": raw, "caption": captions}), path, row_group_size=90)
    out = Folder(tmp_path / "out")
    metrics = run_prepare_pair(PrepareConfig(sources(path)), {}, out.context)
    assert (metrics["kept"], metrics["quarantined"]) == (count - 1, 1)
    for row in out.rows():
        number = int(row["captions"][0].split()[1])
        colour = 9000 if number == 5 else number
        pixel = Image.open(io.BytesIO(row["image"])).getpixel((0, 0))
        assert pixel == (colour % 256, colour // 256, 7)


def test_equal_sources_give_equal_bytes_wherever_they_lie(ray_local, tmp_path):
    outputs = []
    for place in ("one", "two"):
        corpus = tmp_path / place
        corpus.mkdir()
        for i in range(1300):
            (corpus / f"{i}.png").write_bytes(picture(i, (4, 4)))
        out = Folder(tmp_path / f"out-{place}")
        run_prepare_image(PrepareConfig(sources(corpus), held_out=0.1), {}, out.context)
        outputs.append(out.files())
    assert outputs[0] == outputs[1]
    held_out = out.held_out()
    assert [row["split"] for row in held_out].count("test") == 130
    assert {row["split"] for row in held_out} == {"test", "valid"}
    assert {row["split"] for row in out.training()} == {"train"}


def test_a_training_row_with_a_held_out_picture_goes(ray_local, tmp_path):
    for name in ("a.png", "b.png", "z.png"):
        (tmp_path / name).write_bytes(picture(2 if name == "z.png" else 1))
    rows = [
        {"image": "a.png", "caption": "seen", "split": "train"},
        {"image": "b.png", "caption": "held out", "split": "test"},
        {"image": "z.png", "caption": "other", "split": "train"},
    ]
    out = Folder(tmp_path / "out")
    source = sources(write_jsonl(tmp_path / "pairs.jsonl", rows))
    run_prepare_pair(PrepareConfig(source), {}, out.context)
    assert [row["captions"] for row in out.rows()] == [["held out"], ["other"]]


def test_text_streams_with_line_numbers_and_splits(ray_local, tmp_path):
    corpus = tmp_path / "text"
    corpus.mkdir()
    lines = [f"document number {i} of a long file".encode() for i in range(9000)]
    lines[10] = b"caf\xe9 is not UTF-8 in this line"
    lines[11] = b"short"
    (corpus / "long.txt").write_bytes(b"\r\n".join(lines))
    rows = [{"text": "a document that is held out", "split": "test"}, {"other": 1}]
    write_jsonl(corpus / "rows.jsonl", rows)
    out = Folder(tmp_path / "out")
    metrics = run_prepare_text(PrepareConfig(sources(corpus)), {}, out.context)
    assert (metrics["read"], metrics["kept"], metrics["quarantined"]) == (9002, 8999, 3)
    assert [(r["key"], r["reason"]) for r in out.table(QUARANTINE)] == [
        ("long.txt:11", "the line is not UTF-8"),
        ("long.txt:12", "shorter than 20 characters"),
        ("rows.jsonl:2", "the row has no text"),
    ]
    kept = out.rows()
    assert "document number 8999 of a long file" in {row["text"] for row in kept}
    assert [row["text"] for row in out.held_out()] == ["a document that is held out"]
    divided = Folder(tmp_path / "divided")
    run_prepare_text(PrepareConfig(sources(corpus), held_out=None), {}, divided.context)
    splits = [r["split"] for r in divided.held_out()]
    assert 800 < splits.count("test") < 1000  # a tenth, by the documents' hash
    assert 380 < splits.count("valid") < 520
