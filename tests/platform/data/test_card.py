"""The card of a prepared corpus: counts that add up, the same bytes each time, safe Markdown."""

import hashlib
import io
import json
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from momo_platform.data.card import (
    _EDGES,
    CARD,
    CARD_PAGE,
    CARD_SAMPLES,
    CardBuilder,
    Histogram,
)
from momo_platform.data.card_page import plain
from momo_platform.data.config import SourceConfig
from momo_platform.data.digests import DIGEST_SCHEMA, files_in_order, write_listing
from pipelines.modalities import MODALITIES

SOURCES = (SourceConfig("a", "/secret/place", licence="CC-BY 4.0"), SourceConfig("b", ""))


def picture_row(number, **changes):
    generator = np.random.default_rng(number)
    buffer = io.BytesIO()
    Image.fromarray(generator.integers(0, 255, (120, 150, 3), dtype=np.uint8)).save(buffer, "PNG")
    return {
        "source": "ab"[number % 2],
        "key": f"{number}.png",
        "split": "test" if number < 4 else "train",
        "image": buffer.getvalue(),
        "captions": ["a <b>caption</b> | with *marks*", "short"],
        "width": 150,
        "height": 120,
    } | changes


FILES = {"count": 32, "bytes": 224, "sha256": "0" * 64}


def counted(rows, kind="pair"):
    builder = CardBuilder(MODALITIES[kind].kind)
    for row in rows:
        fate = "quarantined" if row.get("reason") else row.get("fate", "kept")
        builder.count(row, fate)
    return builder


def card_of(output, rows, kind="pair", bits=4, parts=0):
    """The card of rows, counted at once or in so many parts."""
    output.mkdir()
    builder = counted([] if parts else rows, kind)
    for part in range(parts):
        builder.merge(json.loads(json.dumps(counted(rows[part::parts], kind).record())))
    builder.write(output, SOURCES, FILES, bits)
    return json.loads((output / CARD).read_text())


@pytest.fixture(scope="module")
def rows():
    found = [picture_row(n) for n in range(30)]
    found.append(picture_row(12, key="again.png", fate="duplicates"))
    found.append(picture_row(40, reason="damaged or truncated: x", image=None))
    found.append(picture_row(41, reason="unknown split: 'x'", image=None, split="x"))
    return found


def test_counts_add_up(tmp_path, rows):
    card = card_of(tmp_path / "card", rows)
    assert card["steps"] == [
        {"step": "read", "removed": 0, "rows": 33},
        {"step": "quarantined", "removed": 2, "rows": 31},
        {"step": "duplicates", "removed": 1, "rows": 30},
        {"step": "near_duplicates", "removed": 0, "rows": 30},
    ]
    for tallies in (card["by_source"], card["by_split"]):
        assert sum(t["read"] for t in tallies.values()) == 33
        assert sum(t["kept"] for t in tallies.values()) == 30
        for tally in tallies.values():
            assert tally["read"] == sum(n for step, n in tally.items() if step != "read")
    assert list(card["by_split"]) == ["train", "test", "unknown"]
    assert card["reasons"] == {"damaged or truncated": 1, "unknown split": 1}
    assert card["licences"] == {"a": "CC-BY 4.0", "b": ""}
    assert card["files"]["count"] == 32
    assert card["histograms"]["width"]["least"] == card["histograms"]["width"]["most"] == 150
    assert card["histograms"]["caption_words"]["count"] == 60
    assert card["histograms"]["caption_words"]["mean"] == 3.0


def test_samples_are_small_pictures_of_all_sources(tmp_path, rows):
    card = card_of(tmp_path / "card", rows)
    assert {s["source"] for s in card["samples"]} == {"a", "b"}
    for sample in card["samples"]:
        picture = Image.open(tmp_path / "card" / sample["picture"])
        assert picture.format == "PNG"
        assert picture.size == (96, 77)
    assert len(list((tmp_path / "card" / CARD_SAMPLES).iterdir())) == len(card["samples"]) == 12


def test_equal_rows_give_equal_bytes_and_no_places(tmp_path, rows):
    rows = [*rows, picture_row(42, reason="damaged or truncated: y", image=None)]
    rows += [picture_row(n, key="the same key") for n in (50, 52)]
    card_of(tmp_path / "whole", rows)
    for name, given, parts in (
        ("again", rows, 0),
        ("reversed", rows[::-1], 0),
        ("one part", rows, 1),
        ("parts", rows, 5),
        ("reversed parts", rows[::-1], 7),
        ("a part a row, and empty ones", rows, 40),
    ):
        card_of(tmp_path / name, given, parts=parts)
        files = [p for p in (tmp_path / "whole").rglob("*") if p.is_file()]
        assert len(files) == 14
        for file in files:
            other = tmp_path / name / file.relative_to(tmp_path / "whole")
            assert other.read_bytes() == file.read_bytes(), (name, file)
    assert "secret" not in (tmp_path / "whole" / CARD).read_text()


def test_records_are_merged_in_any_order_and_in_steps(rows):
    parts = [counted(rows[part::3]).record() for part in range(3)]
    merged = []
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        builder = counted([])
        for number in order:
            builder.merge(parts[number])
        merged.append(builder)
    first = counted([])
    first.merge(parts[1])
    first.merge(parts[2])
    last = counted([])
    last.merge(parts[0])
    last.merge(first.record())
    for builder in (*merged, last, counted(rows)):
        assert builder.total == {"read": 33, "quarantined": 2, "duplicates": 1, "kept": 30}
        assert list(builder.by_source.items()) == list(merged[0].by_source.items())
        assert [*builder.reasons.items()] == [("damaged or truncated", 1), ("unknown split", 1)]
        assert [*builder.examples.items()] == [
            ("damaged or truncated", ("40.png", "damaged or truncated: x")),
            ("unknown split", ("41.png", "unknown split: 'x'")),
        ]
    assert len(json.dumps(parts[0])) < 12 * 2 * 40_000


def test_samples_do_not_depend_on_the_order_of_rows(tmp_path, rows):
    cards = [
        card_of(tmp_path / name, chosen)["samples"]
        for name, chosen in (("one", rows[:30]), ("two", rows[:30][::-1]))
    ]
    assert [s["key"] for s in cards[0]] == [s["key"] for s in cards[1]]


def test_the_page_is_markdown_that_no_caption_can_break(tmp_path, rows):
    card_of(tmp_path / "card", rows)
    page = (tmp_path / "card" / CARD_PAGE).read_text()
    assert page.startswith("# Corpus prepare-pair\n")
    assert "| near duplicates of held-out pictures | 0 | 30 |" in page
    assert "![](card_samples/00.png)" in page
    assert "<b>" not in page
    tables = [line for line in page.splitlines() if line.startswith("|")]
    for above, line in pairwise(tables):
        if line.startswith("|---"):
            assert line.count("|") == above.count("|")
    assert all(line.count("|") == 5 for line in tables if "card_samples" in line)
    hostile = "![x](http://e.x/y) `a` <img src=x> | $x$ :smile: @me www.x.y\n# no"
    assert plain(hostile).isprintable()
    for mark in ("![", "](", "`", "<", "|", "$", ":smile", "@", "://", "www.", "\n"):
        assert mark not in plain(hostile)
    assert plain("CC-BY 4.0, man's: 3") == "CC-BY 4.0, man's: 3"


def test_text_has_lengths_and_no_pictures(tmp_path):
    texts = ["word " * n for n in range(1, 100)]
    rows = [
        {"source": "a", "key": str(n), "text": text.strip(), "split": "train"}
        for n, text in enumerate(texts)
    ]
    card = card_of(tmp_path / "card", rows, "text", None)
    assert [s["step"] for s in card["steps"]] == ["read", "quarantined", "duplicates"]
    assert card["histograms"].keys() == {"document_characters", "document_words"}
    assert card["histograms"]["document_words"]["most"] == 99
    assert all(len(s["texts"][0]) <= 301 for s in card["samples"])
    assert not (tmp_path / "card" / CARD_SAMPLES).exists()
    page = (tmp_path / "card" / CARD_PAGE).read_text()
    assert "Near" not in page
    assert "near" not in page


def test_histograms_have_fixed_bars_without_gaps():
    histogram = Histogram()
    for value in (0, 1, 5, 64, 64, 2**40):
        histogram.add(value)
    document = histogram.document()
    assert sum(bar["count"] for bar in document["bars"]) == document["count"] == 6
    for one, other in pairwise(document["bars"]):
        assert one["to"] == other["from"]
    assert (document["least"], document["most"]) == (0, 2**40)
    assert list(_EDGES) == sorted(set(_EDGES))
    assert Histogram().document()["bars"] == []


def file_row(number, **changes):
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return {
        "source": "ab"[number % 2],
        "path": f"{number}.png",
        "size": 7,
        "sha256": digest,
    } | changes


def test_the_listing_of_files_is_sorted_and_has_each_once(tmp_path, monkeypatch):
    rows = [file_row(n) for n in range(200)]
    rows += [file_row(3), file_row(3, sha256="0" * 64), file_row(4, path="é.png")]
    expected = sorted(
        {tuple(row.values()): row for row in rows}.values(),
        key=lambda r: (r["source"], r["path"], r["sha256"]),
    )
    lines = "".join("\0".join(map(str, row.values())) + "\n" for row in expected)
    for run, parts in ((2**17, 1), (2**17, 7), (64, 7), (1, 300), (10, 2)):
        monkeypatch.setattr("momo_platform.data.digests._RUN", run)
        monkeypatch.setattr("momo_platform.data.digests._RUN_BLOCK", 3)
        tables = (pa.Table.from_pylist(rows[n::parts], schema=DIGEST_SCHEMA) for n in range(parts))
        found = write_listing(tables, tmp_path / "sources.parquet")
        assert pq.read_table(tmp_path / "sources.parquet").to_pylist() == expected
        digest = hashlib.sha256(lines.encode()).hexdigest()
        assert found == {"count": len(expected), "bytes": 7 * len(expected), "sha256": digest}
    assert [p.name for p in tmp_path.iterdir()] == ["sources.parquet"]
    assert files_in_order([]).num_rows == 0
    assert write_listing([], tmp_path / "none.parquet")["count"] == 0
