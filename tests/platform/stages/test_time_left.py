"""Time left: from what earlier runs took, from progress, and honest about what is not known."""

from dataclasses import dataclass, field, replace

import pytest
from making import make
from toy_stages import Toy, add, chain

from momo_platform.stages import Resources, Stage, make_plan, open_storage
from momo_platform.stages.manifest import Manifest
from momo_platform.stages.status import StageStatus
from momo_platform.stages.time_left import (
    Forecast,
    TimeLeft,
    cpu_seconds,
    earlier_seconds,
    planned_time,
    rough,
    trials_left,
)


@dataclass(frozen=True)
class Train:
    steps: int
    learning_rate: float = 0.1
    batch_size: int = 32
    optimizer: str = "adam"


@dataclass(frozen=True)
class Recipe:
    width: int
    train: Train = field(default_factory=lambda: Train(100))


def manifest(stage, seconds, metrics, config, resources=None):
    return Manifest(
        *(stage.name, "0" * 12, 1, "a", {}, metrics, config, {}, "", {}, {}, seconds),
        resources or {},
        "2026",
    )


def recipe(width=64, **train):
    return {"width": width, "train": vars(Train(100)) | train}


def test_a_training_stage_is_scaled_by_its_steps():
    stage = Stage("train", add, Recipe(64, Train(400)))
    told = {"seconds_training": 50.0, "steps": 120, "resumed_at_step": 20}
    earlier = manifest(stage, 58.0, told, recipe(steps=120, optimizer="other"))
    assert earlier_seconds(stage, [earlier]) == pytest.approx(8 + 0.5 * 400)
    assert earlier_seconds(stage, [earlier], from_step=300) == pytest.approx(8 + 0.5 * 100)


@pytest.mark.parametrize(
    "config, resources",
    [(recipe(128), {}), (recipe(batch_size=8), {}), (recipe(), {"CPU": 2.0})],
)
def test_another_size_batch_or_machine_says_nothing(config, resources):
    stage = Stage("train", add, Recipe(64))
    told = {"seconds_training": 50.0, "steps": 100}
    assert earlier_seconds(stage, [manifest(stage, 58.0, told, config, resources)]) is None


def test_a_plan_has_the_seconds_of_what_was_run_before(tmp_path):
    storage = open_storage(tmp_path / "runs")
    make(storage, *chain(1, 2))
    plan = make_plan(chain(1, 2), storage, rerun=["*"])
    assert list(cpu_seconds(plan, storage)) == ["s0", "s1"]
    assert all(seconds is not None for seconds in cpu_seconds(plan, storage).values())
    assert planned_time(plan, storage, 2).unknown == ()
    plan = make_plan(chain(7, 2), storage)  # the first has another config, the second is as it was
    assert cpu_seconds(plan, storage)["s0"] is None
    assert cpu_seconds(plan, storage)["s1"] is not None
    assert planned_time(plan, storage, 2).unknown == ("s0",)


def side_by_side(tmp_path):
    """a → b and a → c, where b and c do the same; a plan of them."""
    core = Resources(num_cpus=1.0)
    first = Stage("a", add, Toy(1), resources=core)
    second = Stage("b", add, Toy(2), {"up": first}, resources=core)
    third = replace(second, name="c")
    storage = open_storage(tmp_path / "runs")
    plan = make_plan([second, third], storage)
    return plan, storage, {e.name: StageStatus(e) for e in plan.entries}


def test_unknown_stages_are_named_until_they_say_how_far_they_are(tmp_path):
    plan, storage, statuses = side_by_side(tmp_path)
    forecast = Forecast(plan, storage, 2)
    given = list(statuses.values())
    assert forecast(given) == TimeLeft(0.0, ("a", "b", "c"))
    statuses["a"].state, statuses["a"].seconds = "running", 30.0
    statuses["a"].progress = {"step": 3, "total": 4}
    assert forecast(given) == TimeLeft(pytest.approx(10.0), ("b", "c"))
    statuses["a"].progress["eta_seconds"] = 7.0
    assert forecast(given) == TimeLeft(7.0, ("b", "c"))


def test_what_ended_in_the_job_counts_for_its_like(tmp_path):
    plan, storage, statuses = side_by_side(tmp_path)
    statuses["a"].state = "done"
    statuses["b"].state, statuses["b"].seconds = "done", 40.0
    given = list(statuses.values())
    assert Forecast(plan, storage, 2)(given) == TimeLeft(40.0)
    statuses["c"].state, statuses["c"].seconds = "running", 15.0
    assert Forecast(plan, storage, 2)(given) == TimeLeft(25.0)
    statuses["c"].seconds = 100.0  # later than foretold, never below zero
    assert Forecast(plan, storage, 2)(given) == TimeLeft(0.0)


def test_one_core_does_one_after_the_other(tmp_path):
    plan, storage, statuses = side_by_side(tmp_path)
    for name in "bc":
        statuses[name].state = "running"
        statuses[name].progress = {"eta_seconds": 30.0}
    statuses["a"].state = "cached"
    assert Forecast(plan, storage, 2)(list(statuses.values())).seconds == 30.0
    assert Forecast(plan, storage, 1)(list(statuses.values())).seconds == 60.0


def test_a_sweeps_time_follows_from_the_trials_that_ended():
    assert trials_left([], [3.0], 4, 2) is None
    assert trials_left([50.0, 70.0], [20.0, 90.0], 4, 2) == TimeLeft((4 * 60 + 40) / 2)
    assert trials_left([60.0], [20.0], 0, 8) == TimeLeft(40.0)  # no more at once than there are


def test_words():
    assert str(TimeLeft(700)) == "about 12 min left"
    assert str(TimeLeft(700, ("a",))) == "at least 12 min left, not counting a"
    assert str(TimeLeft(0, ("a", "b", "c", "d"))) == (
        "time left not known yet: a, b and 2 more never ran with these settings"
    )
    assert TimeLeft(700).planned == "about 12 min, by earlier runs with the same settings"
    assert TimeLeft(0, ("a",)).planned == "time not known: a never ran with these settings"
    assert [rough(s) for s in (0, 44, 89, 5000, 7500)] == [
        *("10 s", "40 s", "90 s", "83 min", "2 h 05 min")
    ]
