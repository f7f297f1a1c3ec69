"""The report's table and charts, without a model."""

import pyarrow as pa

from momo_platform.data.rows import TEXT_SCHEMA
from momo_platform.data.sink import Sink
from momo_platform.data.sources import SourceConfig
from pipelines.report.charts import bar_chart, line_chart
from pipelines.report.corpora import read_corpus
from pipelines.report.stage import summarise, text_table


def _tasks(value):
    return {
        "mnist": {"value": value, "low": value - 0.01, "high": value + 0.01, "details": {"c": 0.1}},
        "movie_sentiment": {"value": 0.7, "low": 0.65, "high": 0.75, "details": {}},
        "easy_vqa": {"value": 0.9, "low": 0.88, "high": 0.92, "details": {}},
    }


BASELINES = {
    "mnist": {"baseline": 0.896, "chance": 0.1, "details": {"random_features": 0.8}},
    "movie_sentiment": {"baseline": 0.807, "chance": 0.5, "details": {}},
    "easy_vqa": {"baseline": 0.373, "chance": 0.08, "details": {}},
}


def test_summary_and_table():
    stages = {f"stage{i}-x": summarise(_tasks(0.9 + i / 100), BASELINES) for i in (1, 2)}
    final = stages["stage2-x"]
    assert final["tasks"]["mnist"]["value"] == 0.92
    assert final["tasks"]["mnist"]["details"] == {"c": 0.1, "random_features": 0.8}
    assert final["covered"] == {"image": [1, 2], "text": [1, 1], "multimodal": [1, 3]}
    assert final["groups"] == {"image": 0.92, "text": 0.7, "multimodal": 0.9}
    assert "emoji_category" not in final["tasks"]
    lines = text_table(stages).splitlines()
    assert "(below)" in next(x for x in lines if x.startswith("movie_sentiment"))
    assert "(below)" not in next(x for x in lines if x.startswith("mnist"))


def test_a_chart_of_one_point_or_none():
    assert line_chart({}, "x") == ""
    assert "<polyline" in line_chart({"a": [(1, 2.0)]}, "x")


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
    sink = Sink(tmp_path, "text", TEXT_SCHEMA)
    sink.add(pa.Table.from_pylist(rows, schema=TEXT_SCHEMA))
    sink.close((SourceConfig("s", "", licence="MIT"),), 0.5)
    corpus = read_corpus(tmp_path)
    assert corpus.steps[-1] == ("exact duplicates", 0, 20)
    assert [name for name, _ in corpus.tallies] == ["s", "split train"]
    assert [title for title, _, _ in corpus.charts] == [
        "Characters of a document",
        "Words of a document",
    ]
    assert corpus.samples[0].picture is None
    assert "document <" in corpus.samples[0].texts[0]
