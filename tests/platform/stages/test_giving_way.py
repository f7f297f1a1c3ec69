"""Stages that give way to trainings: which wait, and for how long. Without Ray."""

import pytest
from toy_stages import Toy, add

from momo_platform.stages import Resources, Stage, make_plan, open_storage
from momo_platform.stages.schedule import Schedule

_TRAINING = Resources(workers=2, worker_cpus=0.45)
_SMALL = Resources(num_cpus=0.5)
_ASIDE = Resources(num_cpus=1.0, gives_way=True)


@pytest.fixture
def schedule(tmp_path):
    """first → second (trainings), a measurement on the first, and a page of all."""

    def make(training=_TRAINING, aside=_ASIDE):
        first = Stage("first", add, Toy(1), resources=training)
        second = Stage("second", add, Toy(2), {"up": first}, resources=training)
        measured = Stage("measured", add, Toy(3), {"up": first}, resources=aside)
        page = Stage("page", add, Toy(4), {"model": second, "value": measured}, resources=_SMALL)
        storage = open_storage(tmp_path / "runs")
        storage.create()
        return Schedule(make_plan([page], storage), storage)

    return make


def _move(schedule, name, cpus):
    return schedule.move(schedule.statuses[name], 0.0, cpus)


def _set(schedule, **states):
    for name, state in states.items():
        schedule.set(schedule.statuses[name], state)


def test_it_waits_for_trainings_that_run_or_are_still_to_come(schedule):
    schedule = schedule()
    _set(schedule, first="done")
    assert _move(schedule, "measured", 2.0) is None
    assert _move(schedule, "second", 2.0) == "start"
    _set(schedule, second="running")
    assert _move(schedule, "measured", 2.0) is None
    while schedule.next_candidate():
        pass
    schedule.begin_round()  # it is looked at again though none of its inputs moves
    assert schedule.next_candidate() is schedule.statuses["measured"]
    _set(schedule, second="done")
    assert _move(schedule, "measured", 2.0) == "start"


def test_a_processor_to_spare_is_used(schedule):
    schedule = schedule()
    _set(schedule, first="done", second="running")
    assert _move(schedule, "measured", 3.0) == "start"
    _set(schedule, page="running")
    assert _move(schedule, "measured", 3.0) is None


@pytest.mark.parametrize("state", ["failed", "not run", "leased"])
def test_it_does_not_wait_for_what_is_not_trained_here(schedule, state):
    schedule = schedule()
    _set(schedule, first="done", second=state)
    assert _move(schedule, "measured", 2.0) == "start"


def test_it_does_not_wait_beside_trainings_on_gpus(schedule):
    schedule = schedule(Resources(workers=2, worker_cpus=1.0, worker_gpus=1.0))
    _set(schedule, first="done", second="running")
    assert _move(schedule, "measured", 2.0) == "start"


def test_it_does_not_wait_for_a_training_that_needs_it(tmp_path):
    scores = Stage("scores", add, Toy(1), resources=_ASIDE)
    chosen = Stage("chosen", add, Toy(2), {"up": scores})
    training = Stage("training", add, Toy(3), {"up": chosen}, resources=_TRAINING)
    storage = open_storage(tmp_path / "runs")
    storage.create()
    schedule = Schedule(make_plan([training], storage), storage)
    assert _move(schedule, "scores", 2.0) == "start"


def test_others_start_beside_a_training(schedule):
    schedule = schedule(aside=Resources(num_cpus=1.0))
    _set(schedule, first="done", second="running")
    assert _move(schedule, "measured", 2.0) == "start"
