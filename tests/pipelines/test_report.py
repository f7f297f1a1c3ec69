"""The report's table and charts, without a model."""

from pipelines.report.charts import line_chart
from pipelines.report.stage import summarise, text_table


def _tasks(value):
    return {
        "mnist": {"value": value, "details": {"c": 0.1}},
        "movie_sentiment": {"value": 0.7, "details": {}},
        "easy_vqa": {"value": 0.9, "details": {}},
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
    assert final["groups"] == {"image": 0.92, "text": 0.7, "multimodal": 0.9}
    assert "emoji_category" not in final["tasks"]
    lines = text_table(stages).splitlines()
    assert "(below)" in next(x for x in lines if x.startswith("movie_sentiment"))
    assert "(below)" not in next(x for x in lines if x.startswith("mnist"))


def test_a_chart_of_one_point_or_none():
    assert line_chart({}, "x") == ""
    assert "<polyline" in line_chart({"a": [(1, 2.0)]}, "x")
