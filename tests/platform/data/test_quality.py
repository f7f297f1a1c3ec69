"""Rows that are left out for their quality: which go, why, and what is made once only."""

import hashlib
import json
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from preparing import Folder, in_other_order, pour, with_schema

from momo_platform.data.artifacts import PreparedRows
from momo_platform.data.config import Kind
from momo_platform.data.near import look_of
from momo_platform.data.quality import near_texts, passes, select
from momo_platform.data.quality.config import QualityConfig
from momo_platform.data.quality.filters import (
    LOOKS,
    NotTested,
    OfLanguages,
    check_languages,
    write_looks,
)
from momo_platform.data.rows import TEXT_SCHEMA
from momo_platform.stages import UserError
from momo_platform.stages.storage.place import Place

KIND = Kind("text", hint="", columns=(("text", ("text",)),), content="text")
ENGLISH = "The old house by the river has a red roof, and number {} is on its green door."
GERMAN = "Das alte Haus am Fluss hat ein rotes Dach, und an der grünen Tür steht {}."


def corpus(folder, texts, held_out=(), sources=1):
    """A preparation of texts, each of its own key; those whose number is in `held_out` are for
    tests."""
    rows = [
        {
            "source": f"s{n % sources}",
            "key": f"{n:04d}",
            "text": text,
            "split": "test" if n in held_out else "train",
        }
        for n, text in enumerate(texts)
    ]
    names = [f.name for f in TEXT_SCHEMA]
    rows = [{name: row.get(name) for name in names} for row in rows]
    pour(folder, with_schema(rows, TEXT_SCHEMA), KIND, bucket_bytes=2_000, row_group=8)
    return PreparedRows(folder)


def chosen(folder, prepared, config, filters=(), scorer=None):
    made = Folder(folder)
    metrics = select.select_rows(config, prepared, made.context, filters, scorer)
    return made, metrics


def keys(rows):
    return {row["key"] for row in rows}


def test_texts_in_other_languages_go_and_are_counted(tmp_path):
    texts = [(GERMAN if n % 4 == 0 else ENGLISH).format(n) for n in range(40)]
    prepared = corpus(tmp_path / "rows", [*texts, "red heart"], held_out=(4, 5))
    config = QualityConfig("text", ("en",))
    made, metrics = chosen(tmp_path / "kept", prepared, config, [OfLanguages("text", ("en",))])
    german = {f"{n:04d}" for n in range(0, 40, 4)}
    assert keys(made.training()) == {f"{n:04d}" for n in range(41)} - german - {"0005"}
    assert keys(made.held_out()) == {"0004", "0005"}  # as they are
    assert metrics["language"] == 9
    assert metrics["kept"] == 32
    assert metrics["reasons"] == {"language de": 9}
    card = json.loads((tmp_path / "kept" / "card.json").read_text())
    assert card["steps"][-1] == {"step": "language", "removed": 9, "rows": 32}
    assert card["by_source"]["s0"]["language"] == 9
    assert card["by_split"]["train"]["kept"] == 30
    assert card["by_split"]["test"]["kept"] == 2
    assert len(card["quality"]["examples"]["language"]) == 5
    assert not {s["key"] for s in card["samples"]} & (german - {"0004"})
    page = (tmp_path / "kept" / "card.md").read_text()
    assert "in another language" in page
    assert "language de" in page


def test_a_language_that_nobody_knows_is_refused():
    with pytest.raises(UserError, match=r"--quality\.languages english: give any of .*en,"):
        check_languages(["en", "english"])


def near_copy(number):
    """A text of 100 words of which one differs from the first copy's."""
    words = [f"word{number}of{place}" for place in range(100)]
    return " ".join(words), " ".join([*words[:50], "other", *words[51:]])


def test_of_texts_that_are_nearly_equal_the_first_stays(tmp_path):
    pairs = [near_copy(number) for number in range(20)]
    texts = [text for pair in pairs for text in pair] + ["one two three", "One  two THREE"]
    prepared = corpus(tmp_path / "rows", texts, held_out=(1,))
    made, metrics = chosen(tmp_path / "kept", prepared, QualityConfig("text", (), 0.8))
    kept = keys(made.training())
    assert "0000" not in kept  # its near copy is held out
    for number in range(1, 20):
        assert len(kept & {f"{2 * number:04d}", f"{2 * number + 1:04d}"}) == 1, number
    assert len(kept & {"0040", "0041"}) == 1
    assert metrics["near_text"] == 21
    assert metrics["reasons"] == {"like another text": 20, "like a held-out text": 1}


def test_texts_that_share_little_all_stay(tmp_path):
    words = np.random.default_rng(3).integers(0, 400, (60, 120))
    texts = [" ".join(f"w{n}" for n in row) for row in words]
    half = [f"{a[: len(a) // 2]} {b[len(b) // 2 :]}" for a, b in pairwise(texts)]
    prepared = corpus(tmp_path / "rows", texts + half)
    _, metrics = chosen(tmp_path / "kept", prepared, QualityConfig("text", (), 0.8))
    assert metrics["near_text"] == 0
    assert metrics["kept"] == 119


def joined(place, files, pieces=1, similarity=0.8):
    """Near duplicates of all bands."""
    bands = range(near_texts.bands_of(similarity)[0])
    return {
        tuple(pair)
        for band in bands
        for piece in range(pieces)
        for pair in near_texts.pairs_in(place, files, band, piece, pieces, similarity).tolist()
    }


def of_similarity(similarity, pairs, generator):
    """Sets, two of each pair after one another, whose Jaccard similarity is that."""
    common = 90  # of s in common and r of their own each it is s / (s + 2 r)
    own = round(common * (1 - similarity) / similarity / 2)
    for _ in range(pairs):
        shared, *rest = (
            [f"{n}".encode() for n in generator.integers(0, 2**60, count)]
            for count in (common, own, own)
        )
        yield from (shared + some for some in rest)


def test_how_often_near_copies_are_found(tmp_path):
    """About half at the similarity itself, by the estimate; far above it nearly all, below none."""
    generator, place = np.random.default_rng(0), Place(str(tmp_path))

    def found(similarity, pairs=200):
        sets = [*of_similarity(similarity, pairs, generator)]
        signatures = near_texts.signatures_of_sets(sets)
        near_texts.write_bands(place, "all", np.arange(2 * pairs), signatures, 0.8)
        hits = joined(place, [("all", 0)])
        assert {one // 2 == other // 2 for one, other in hits} <= {True}
        return len(hits) / pairs

    assert found(0.9) > 0.95
    assert 0.3 < found(0.8) < 0.7
    assert found(0.7) < 0.05
    assert found(0.6) == 0


def test_chains_of_pairs_are_one_group():
    rows, heads = near_texts.repeats_among(np.array([[3, 9], [9, 12], [1, 2], [12, 20]]))
    assert rows.tolist() == [2, 9, 12, 20]
    assert heads.tolist() == [1, 3, 3, 3]
    empty = near_texts.repeats_among(np.zeros((0, 2), np.int64))
    assert [len(part) for part in empty] == [0, 0]


def test_files_and_pieces_have_all_pairs_together(tmp_path):
    generator, place = np.random.default_rng(5), Place(str(tmp_path))
    sets = [*of_similarity(0.95, 60, generator)]
    order = generator.permutation(120)
    signatures = near_texts.signatures_of_sets([sets[n] for n in order])
    rows = np.arange(120)
    near_texts.write_bands(place, "all", rows, signatures, 0.8)
    some = np.flatnonzero(rows[:80] != 7)  # a file's rows that go for another reason are not there
    near_texts.write_bands(place, "a", some, signatures[some], 0.8)
    near_texts.write_bands(place, "b", np.arange(40), signatures[80:], 0.8)
    whole = joined(place, [("all", 0)])
    assert len(whole) > 55
    parts = joined(place, [("a", 0), ("b", 80)], pieces=3)
    assert parts == {pair for pair in whole if 7 not in pair}
    assert all(order[one] // 2 == order[other] // 2 for one, other in whole)


class Lengths:
    """Scores a text by a hash."""

    columns = ("text",)

    def __call__(self, table):
        texts = table["text"].to_pylist()
        values = [hashlib.sha256(text.encode()).digest()[0] / 255 - 0.5 for text in texts]
        return np.array(values, np.float32)


@pytest.mark.parametrize("keep", [0.25, 0.7, 1.0])
def test_the_best_scores_are_kept(tmp_path, keep):
    texts = [ENGLISH.format(n) for n in range(200)]
    prepared = corpus(tmp_path / "rows", texts, sources=3)
    made, metrics = chosen(
        tmp_path / "kept", prepared, QualityConfig("text", keep=keep), scorer=Lengths
    )
    rows = Folder(tmp_path / "rows").training()
    table = with_schema([{n: r[n] for n in ("text", "key")} for r in rows], None)
    scores = dict(zip(table["key"].to_pylist(), Lengths()(table).tolist(), strict=True))
    least = sorted(scores.values(), reverse=True)[round(keep * 200) - 1]
    assert keys(made.training()) == {key for key, score in scores.items() if score >= least}
    assert metrics["least_score"] <= least < metrics["least_score"] + 1 / 4096
    sources = [shard.source for shard in made.index().shards]
    assert sources == sorted(sources)


def test_scores_are_of_rows_that_others_left(tmp_path):
    texts = [(GERMAN if n % 2 else ENGLISH).format(n) for n in range(40)]
    prepared = corpus(tmp_path / "rows", texts)
    config = QualityConfig("text", ("en",), keep=0.5)
    filters = [OfLanguages("text", ("en",))]
    made, metrics = chosen(tmp_path / "kept", prepared, config, filters, Lengths)
    assert (metrics["language"], metrics["score"]) == (20, 10)
    assert all("house" in row["text"] for row in made.training())


def picture(number):
    pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)
    return Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC)


def test_pictures_that_are_tested_on_go(tmp_path):
    tests = [look_of(picture(n)) for n in range(5)]
    write_looks(tmp_path / LOOKS, {"birds": [(f"picture {n}", x) for n, x in enumerate(tests)]})
    one = NotTested(Place(str(tmp_path)), 4)
    near = picture(3).resize((96, 96)).resize((64, 64))
    looks = [look_of(picture(9)), look_of(near), None]
    table = with_schema([{"look": look} for look in looks], None)
    assert one.reasons(table) == ["", "like birds: picture 3", ""]


def test_a_file_of_which_no_row_goes_is_not_written_again(tmp_path):
    prepared = corpus(tmp_path / "rows", [ENGLISH.format(n) for n in range(60)])
    made, _ = chosen(
        tmp_path / "kept", prepared, QualityConfig("text", ("en",)), [OfLanguages("text", ("en",))]
    )
    for file in (*made.index().shards, *made.index().held_out):
        one, other = (folder / file.file for folder in (tmp_path / "rows", tmp_path / "kept"))
        assert one.samefile(other)
    assert made.index() == prepared.index()


def test_nothing_left_is_an_error(tmp_path):
    prepared = corpus(tmp_path / "rows", [GERMAN.format(n) for n in range(20)])
    with pytest.raises(UserError, match=r"no training row is left \(20 × language\)"):
        chosen(tmp_path / "kept", prepared, QualityConfig("text"), [OfLanguages("text", ("en",))])


def everything(folder, prepared):
    config = QualityConfig("text", ("en",), 0.8, 0.8)
    return chosen(folder, prepared, config, [OfLanguages("text", ("en",))], Lengths)[0]


def of_all_kinds(folder):
    texts = [(GERMAN if n % 3 else ENGLISH).format(n) for n in range(60)]
    return corpus(folder, [*texts, *(t for n in range(20) for t in near_copy(n))], (1, 7), 2)


def test_the_order_of_tasks_makes_no_difference(tmp_path, monkeypatch):
    prepared = of_all_kinds(tmp_path / "rows")
    first = everything(tmp_path / "first", prepared)
    monkeypatch.setattr(select, "run_tasks", in_other_order(7))
    monkeypatch.setattr(near_texts, "_JOINED", 16)
    second = everything(tmp_path / "second", prepared)
    assert first.files() == second.files()


def test_an_attempt_goes_on_where_the_one_before_was_interrupted(tmp_path, monkeypatch):
    prepared = of_all_kinds(tmp_path / "rows")
    whole = everything(tmp_path / "whole", prepared)
    written = []

    def failing(place, name, *rest):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(name)
        return write(place, name, *rest)

    write = passes.write_rows
    monkeypatch.setattr(passes, "write_rows", failing)
    with pytest.raises(KeyboardInterrupt):
        everything(tmp_path / "again", prepared)
    monkeypatch.setattr(passes, "write_rows", write)
    shards = {p: p.stat().st_ino for p in (tmp_path / "again").rglob("*.parquet")}
    looked = partial(pytest.fail, "was made again")
    monkeypatch.setattr(near_texts, "signatures_of", looked)
    monkeypatch.setattr(Lengths, "__call__", looked)
    again = everything(tmp_path / "again", prepared)
    assert again.files() == whole.files()
    assert len(shards) >= 3
    assert all(path.stat().st_ino == inode for path, inode in shards.items())
