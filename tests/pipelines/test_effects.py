"""What a training stage did to a group of tasks, and what the report says of it."""

import math

import pytest
from page_samples import tasks

from pipelines.evaluation.effects import effects, told
from pipelines.evaluation.scores import learnt

STAGES = ("untrained", "stage1-image", "stage2-joint")
OBJECTIVES = {"stage1-image": ("mim",), "stage2-joint": ("mim", "mlm")}


def models(*shifts):
    return {name: {"tasks": tasks(shift)} for name, shift in zip(STAGES, shifts, strict=False)}


def test_a_stage_is_compared_with_the_model_before_it_over_common_tasks():
    found = models(0.0, 0.02, 0.05)
    del found["stage1-image"]["tasks"]["own/labels"]
    rows = {(e.stage, e.group): e for e in effects(found, OBJECTIVES)}
    # Of multimodal there are only a row over few examples and a rank, of which less is better.
    assert set(rows) == {(s, g) for s in STAGES[1:] for g in ("image", "text")}
    image, text = rows["stage2-joint", "image"], rows["stage2-joint", "text"]
    assert (image.before, image.tasks, text.tasks) == ("stage1-image", 1, 1)
    assert image.change == pytest.approx(0.03)
    assert (image.low + image.high) / 2 == pytest.approx(image.change)
    assert (image.high - image.low) / 2 == pytest.approx(0.018 * math.sqrt(2))
    assert image.kept
    assert rows["stage1-image", "text"].objectives == ("mim",)
    found = effects(models(0.0, 0.02), OBJECTIVES)
    both = next(e for e in found if e.group == "image")
    assert both.tasks == 2
    assert (both.high - both.low) / 2 == pytest.approx(math.hypot(0.018, 0.05) * math.sqrt(2) / 2)


def test_objectives_of_stages_between_that_were_not_evaluated_count():
    trained = {"stage1-image": ("mim",), "between": ("extra",), "stage2-joint": ("mim", "mlm")}
    found = [e for e in effects(models(0.0, 0.02, 0.05), trained) if e.stage == "stage2-joint"]
    assert {e.objectives for e in found} == {("extra", "mim", "mlm")}


def test_limited_rows_and_missing_intervals():
    found = models(0.0, 0.02)
    found["stage1-image"]["tasks"]["demo/mnist"]["limit"] = 20
    found["stage1-image"]["tasks"]["own/labels"]["low"] = None
    image = effects(found, {})[0]
    assert (image.group, image.tasks, image.low, image.high) == ("image", 1, None, None)


def test_what_was_lost_is_told_with_stage_and_objectives():
    titles = {"mim": "masked patches"}
    kept = effects(models(0.0, 0.01, 0.01), OBJECTIVES)
    assert told(kept) == ["Every evaluated stage left every group at least where it was."]
    assert told([]) == []
    image, text = told(effects(models(0.0, 0.01, -0.02), OBJECTIVES), titles)
    assert image.startswith("stage2-joint took 3.0 points of image (against stage1-image, 2 tasks")
    assert image.endswith("within the interval); its objectives: masked patches, mlm")
    assert "3.0 points of text (against stage1-image, 1 task, 95 % -7.2 to +1.2" in text
    (sure, _) = told(effects(models(0.0, -0.2), OBJECTIVES))
    assert "within" not in sure


def test_a_value_is_beside_that_of_the_untrained_model():
    row = {"low": 0.4, "high": 0.5, "metric": "accuracy", "untrained": 0.39}
    assert learnt(row) == "good"
    assert learnt({**row, "untrained": 0.45}) == ""
    assert learnt({**row, "untrained": 0.51}) == "bad"
    assert learnt({**row, "untrained": None}) == learnt({**row, "low": None}) == ""
    assert learnt({**row, "metric": "text_to_image_median_rank"}) == "bad"
