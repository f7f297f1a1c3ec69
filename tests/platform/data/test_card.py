"""The card of a prepared corpus: counts that add up, the same bytes each time, safe Markdown."""

import io
import json
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from preparing import pour

from momo_platform.data.card import _EDGES, CARD, CARD_PAGE, CARD_SAMPLES, Histogram
from momo_platform.data.card_page import plain
from momo_platform.data.digests import DIGEST_SCHEMA, listing_digest
from momo_platform.data.rows import IMAGE_SCHEMA, TEXT_SCHEMA
from momo_platform.data.sources import SourceConfig
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
        "file": f"{number}.png",
        "size": 7,
        "sha256": f"{number:064d}",
    } | changes


def card_of(output, rows, kind="pair", schema=IMAGE_SCHEMA, bits=4):
    table = pa.Table.from_pylist(rows, schema=schema)
    pour(output, table, MODALITIES[kind].kind, bits, SOURCES)
    return json.loads((output / CARD).read_text())


@pytest.fixture(scope="module")
def rows():
    found = [picture_row(n) for n in range(30)]
    found.append(picture_row(12, key="again.png"))
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
    for name in ("one", "two"):
        card_of(tmp_path / name, rows)
    files = [p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file()]
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert "secret" not in (tmp_path / "one" / CARD).read_text()


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
    card = card_of(tmp_path / "card", rows, "text", TEXT_SCHEMA, None)
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


def test_the_listing_digest_follows_content_and_order():
    row = {"source": "a", "path": "x", "size": 1, "sha256": "0"}
    one = pa.Table.from_pylist([row], schema=DIGEST_SCHEMA)
    other = pa.Table.from_pylist([row | {"sha256": "1"}], schema=DIGEST_SCHEMA)
    assert listing_digest(one) != listing_digest(other)
    assert listing_digest(one) == listing_digest(pa.concat_tables([one]))
