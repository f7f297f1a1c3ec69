"""The report's table and charts, without a model."""

import pyarrow as pa
import pytest
from prepared_rows import artifact
from preparing import pour

from momo_platform.charts import (
    bar_chart,
    interval_mark,
    line_chart,
    nice_ticks,
    thinned,
    tick_labels,
)
from momo_platform.data.rows import TEXT_SCHEMA
from momo_platform.data.sources import SourceConfig
from pipelines.evaluation.scores import verdict
from pipelines.modalities import TEXT
from pipelines.report.cells import others
from pipelines.report.corpora import CorpusCard, place_in_words, read_corpus
from pipelines.report.trainings import Training, rows_seen
from pipelines.report.words import loss_in_words, metric_in_words


def test_a_chart_of_one_point_or_none():
    assert line_chart({}, "x") == ""
    assert "<polyline" in line_chart({"a": [(1, 2.0)]}, "x")


def test_a_long_curve_is_thinned_and_keeps_its_spikes():
    points = [(step, 1.0 / step) for step in range(1, 100_000)]
    points[50_000] = (50_001, 7.0)
    drawn = thinned(points)
    assert len(drawn) <= 700
    assert (50_001, 7.0) in drawn
    assert points[-1] in drawn
    assert [x for x, _ in drawn] == sorted(x for x, _ in drawn)
    assert thinned(points[:10]) == points[:10]


def test_bars_have_a_title_each_and_escape_their_names():
    assert bar_chart([], "x") == ""
    chart = bar_chart([("1", 4), ("<2>", 0), ("3 – 4", 2)], "a & b")
    assert chart.count("<rect") == chart.count("<title>") == 3
    assert "&lt;2&gt;: 0" in chart
    assert 'aria-label="a &amp; b"' in chart
    assert "<rect" in bar_chart([("1", 0)], "x")


def test_a_card_is_read_for_the_page(tmp_path):
    rows = [
        {"source": "s", "key": str(n), "split": "train", "text": f"document <{n}> of the corpus"}
        for n in range(20)
    ]
    table = pa.Table.from_pylist(rows, schema=TEXT_SCHEMA)
    pour(tmp_path / "card", table, TEXT.kind, None, [SourceConfig("s", "", licence="MIT")])
    corpus = read_corpus(artifact(tmp_path / "card"))
    assert corpus.flow == [
        ("read", 20, False),
        ("kept", 20, False),
        ("left for training", 20, False),
    ]
    assert [(s.name, s.licence, s.kept, s.trained) for s in corpus.sources] == [
        ("s", "MIT", 20, None)
    ]
    assert [title for title, _, _ in corpus.charts] == [
        "Characters of a document",
        "Words of a document",
    ]
    assert corpus.samples[0].picture is None
    assert "document <" in corpus.samples[0].texts[0]


CARD = {
    "steps": [
        {"step": "read", "removed": 0, "rows": 305},
        {"step": "quarantined", "removed": 2, "rows": 303},
        {"step": "duplicates", "removed": 3, "rows": 300},
    ],
    "by_source": {"own": {"read": 305, "quarantined": 2, "duplicates": 3, "kept": 300}},
    "by_split": {"train": {"kept": 292}, "valid": {"kept": 3}, "test": {"kept": 5}},
    "licences": {"own": ""},
}


def test_every_row_that_was_read_is_trained_on_or_its_absence_is_told():
    mixed = {
        "rows": 289,
        "sources": {"own": {"available": 289, "rows": 289, "share": 1.0}},
        "held_out": {"duplicates": 1, "near_duplicates": 2},
    }
    corpus = CorpusCard("image", CARD, places={"own": "/data/pictures"}, mixed=mixed)
    read, *between, (last, trained, _) = corpus.flow
    assert (read[1], last, trained) == (305, "trained on", 289)
    assert read[1] - sum(rows for _, rows, out in between if out) == trained
    told = [what for what, _, out in between if out]
    assert told == [
        *("unusable", "exact duplicates", "held out for choices", "held out for tests"),
        *("held out among the captioned pictures", "look like one that is held out"),
    ]
    (own,) = corpus.sources
    assert (own.place, own.licence, own.trained) == ("/data/pictures", "not stated", 289)
    assert own.removed == {"unusable": 2, "exact duplicates": 3}
    assert CorpusCard("image", CARD).flow[-1] == ("left for training", 292, False)


def test_a_source_in_the_demos_stage_is_not_shown_as_a_path():
    assert place_in_words("/data/x.csv") == "/data/x.csv"
    assert place_in_words("input:corpora/text/reviews.txt") == "the demo's corpora, reviews.txt"


@pytest.mark.parametrize(
    "low, high, baseline, expected",
    [
        (0.885, 0.920, 0.903, ""),
        (0.91, 0.95, 0.903, "good"),
        (0.80, 0.90, 0.903, "bad"),
        (0.903, 0.95, 0.903, ""),
        (0.1, 0.2, None, ""),
    ],
)
def test_colour_only_where_the_interval_leaves_the_baseline(low, high, baseline, expected):
    row = {"low": low, "high": high, "baseline": baseline, "metric": "accuracy"}
    assert verdict(row) == expected


def test_a_low_median_rank_is_good():
    row = {"low": 2.0, "high": 4.0, "baseline": 50.0, "metric": "image_to_text_median_rank"}
    assert verdict(row) == "good"


def test_the_other_numbers_of_a_result_stand_beside_it():
    values = {
        "image_to_text_r@1": {"value": 0.25},
        "image_to_text_median_rank": {"value": 7.0},
        "image_to_text_r@10": {"value": 0.5},
        "text_to_image_r@5": {"value": 0.4},
        "mrr": {"value": 0.3},
    }
    row = {"metric": "image_to_text_r@1", "values": values}
    assert others(row) == ["R@10 0.500, median rank 7"]
    assert others({"metric": "mrr", "values": values}) == [
        "picture to caption: R@1 0.250, R@10 0.500, median rank 7",
        "caption to picture: R@5 0.400",
    ]
    values = {"accuracy": {"value": 0.9}, "f1": {"value": 0.8}}
    assert others({"metric": "accuracy", "values": values}) == ["f1 0.800"]


@pytest.mark.parametrize("low, high", [(0, 1), (0.98, 1.05), (3, 3), (-4e-4, 4e-4), (0, 12_345)])
def test_ticks_are_round_span_the_values_and_differ(low, high):
    ticks = nice_ticks(low, high)
    labels = tick_labels(ticks)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 8
    assert len(set(labels)) == len(labels)
    for tick, label in zip(ticks, labels, strict=True):
        assert float(label.replace(",", "")) == pytest.approx(tick, abs=1e-9)


def test_held_out_losses_stand_in_the_chart_of_training():
    curves = {
        "loss/mim": [(1, 2.0), (2, 1.0)],
        "valid/loss/mim": [(2, 1.5)],
        "loss/new_one": [(1, 1.0)],
        "valid/retrieval/image_to_text_r1": [(2, 0.25)],
        "gradient_cosine/image/text": [(1, 0.1)],
    }
    training = Training("stage", {}, curves)
    masked, new = training.loss_charts
    assert masked.title == "masked patches (MIM)"
    assert masked.training
    assert masked.held_out
    assert "<title>held-out</title>" in masked.svg
    assert (new.title, new.held_out) == ("new one", False)
    (retrieval,) = training.held_out_charts
    assert retrieval.title == "picture to caption, R@1"
    assert [c.title for c in training.cosines] == ["gradients of image and text, cosine"]
    assert loss_in_words("pair_mlm") == "masked words beside a picture (pair MLM)"
    assert metric_in_words("image_to_text_r@10") == "picture to caption, R@10"
    assert metric_in_words("text_to_image_mrr") == "caption to picture, mean reciprocal rank"
    assert metric_in_words("retrieval/text_to_image_median_rank") == (
        "caption to picture, median rank"
    )


def test_epochs_follow_from_steps_batches_and_the_mixture():
    mix = {
        "rows": 150,
        "sources": {
            "a": {"available": 100, "rows": 100, "share": 2 / 3},
            "b": {"available": 100, "rows": 50, "share": 1 / 3},
        },
    }
    config = {
        "task": {"modalities": ["image", "text"]},
        "train": {
            "steps": 30,
            "gradient_schedule": "accumulate",
            "batch_sizes": {"image": 10, "text": 4},
        },
    }
    seen = rows_seen(config, {"image": mix})
    assert [(s.source, s.epochs) for s in seen] == [("a", 2.0), ("b", 1.0)]
    config["train"]["gradient_schedule"] = "alternate"
    assert [s.epochs for s in rows_seen(config, {"image": mix})] == [1.0, 0.5]


def test_an_interval_outside_the_rail_is_not_drawn():
    assert interval_mark(12.0, 3.0, 20.0, {}, "x") == ""
    assert 'class="trivial"' in interval_mark(0.5, 0.4, 0.6, {"trivial": 0.3, "chance": None}, "x")
