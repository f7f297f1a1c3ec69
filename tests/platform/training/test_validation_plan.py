"""When a run is measured: by counts alone, at the start and at the end, at most 3 % of its cost."""

import dataclasses
import itertools

import pytest

from momo_platform.stages import canonical
from momo_platform.training.config import TrainConfig, ValidationConfig
from momo_platform.training.validation_plan import (
    MOST_COST,
    cost,
    plan_validation,
    trained_rows,
)


def plan(train, available, units=None):
    return plan_validation(train, available, units or {})


@pytest.mark.parametrize("schedule", ["accumulate", "alternate"])
def test_it_costs_three_percent_at_most_whatever_the_sizes(schedule):
    planned = 0
    sizes = itertools.product((1, 5, 20, 320, 250_000), (8, 32, 4096), (1, 15, 290, 2048), (1, 8))
    for steps, batch, rows, unit in sizes:
        train = TrainConfig(steps, {"a": batch, "b": 4 * batch}, gradient_schedule=schedule)
        found = plan(train, {"a": rows, "b": 2 * rows}, {"b": unit})
        assert cost(train, found) <= MOST_COST, (steps, batch, rows, unit)
        if not found.every_steps:
            continue
        planned += 1
        due = [step for step in range(steps + 1) if found.due(step)] if steps < 1000 else None
        assert due is None or (due[0], due[-1], len(due)) == (0, steps, found.evaluations)
        for name, (count, size) in found.batches.items():
            assert size <= train.batch_sizes[name]
            assert count * size <= {"a": rows, "b": 2 * rows}[name]
            assert name == "a" or size % unit == 0
    assert planned > 60


def test_the_demos_sizes_give_a_curve():
    train = TrainConfig(320, {"text": 32, "pair": 128})
    found = plan(train, {"text": 2048, "pair": 290}, {"pair": 8})
    assert found.evaluations >= 10
    assert found.batches["pair"] == (1, 128)
    assert found.batches["text"] == (1, 32)
    assert trained_rows(train, "pair") == 40960


def test_what_the_user_says_holds():
    train = TrainConfig(100, {"a": 10}, validation=ValidationConfig(every_steps=7))
    found = plan(train, {"a": 500})
    # Whole batches of the training's size, no more than 48 rows.
    assert (found.every_steps, found.rows()) == (7, {"a": 40})
    assert found.due(98)
    assert found.due(100)
    assert not found.due(99)
    all_rows = dataclasses.replace(train, validation=ValidationConfig(every_steps=7, rows=200))
    assert plan(all_rows, {"a": 500}).rows() == {"a": 200}
    none = dataclasses.replace(train, validation=ValidationConfig(every_steps=-1))
    assert not plan(none, {"a": 500}).every_steps
    assert not plan(train, {}).every_steps
    with pytest.raises(ValueError, match="keep=best needs held-out losses"):
        dataclasses.replace(none, keep="best")


def test_only_a_choice_among_checkpoints_is_part_of_the_fingerprint():
    train = TrainConfig(100, {"a": 10})
    often = dataclasses.replace(train, validation=ValidationConfig(every_steps=7))
    assert canonical(train) == canonical(often)
    assert not canonical(train).keys() & {"keep", "validation"}
    best, best_often = (dataclasses.replace(t, keep="best") for t in (train, often))
    assert canonical(best) != canonical(best_often)
    assert canonical(best)["keep"] == "best"
