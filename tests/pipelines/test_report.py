"""The report's table and charts, without a model."""

import pyarrow as pa

from momo_platform.charts import bar_chart, line_chart
from momo_platform.data.rows import TEXT_SCHEMA
from momo_platform.data.sink import Sink
from momo_platform.data.sources import SourceConfig
from pipelines.report.corpora import read_corpus


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
