"""Stages that give way to trainings: which wait, and for how long. Without Ray."""

import io
from dataclasses import replace

import pytest
from toy_stages import Toy, add

from momo_platform.console import Display
from momo_platform.stages import Resources, Stage, fingerprint, make_plan, open_storage
from momo_platform.stages.nodes import Nodes
from momo_platform.stages.schedule import Schedule
from momo_platform.training.config import ScalingConfig
from pipelines.graph import training_resources

_TRAINING = Resources(workers=2, worker_cpus=0.45, training_cpus=2.0)
_SMALL = Resources(num_cpus=0.5)
_ASIDE = Resources(num_cpus=1.0, gives_way=True)


@pytest.fixture
def scheduled(tmp_path):
    """The schedule of the stages that the targets need."""

    def make(*targets):
        storage = open_storage(tmp_path / "runs")
        storage.create()
        return Schedule(make_plan(list(targets), storage), storage)

    return make


@pytest.fixture
def schedule(scheduled):
    """first → second (trainings), a measurement on the first, and a page of all."""

    def make(training=_TRAINING, aside=_ASIDE):
        first = Stage("first", add, Toy(1), resources=training)
        second = Stage("second", add, Toy(2), {"up": first}, resources=training)
        measured = Stage("measured", add, Toy(3), {"up": first}, resources=aside)
        page = Stage("page", add, Toy(4), {"model": second, "value": measured}, resources=_SMALL)
        return scheduled(page)

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


def test_it_does_not_wait_for_a_training_that_needs_it(scheduled):
    scores = Stage("scores", add, Toy(1), resources=_ASIDE)
    chosen = Stage("chosen", add, Toy(2), {"up": scores})
    schedule = scheduled(Stage("training", add, Toy(3), {"up": chosen}, resources=_TRAINING))
    assert _move(schedule, "scores", 2.0) == "start"


def test_two_do_not_wait_for_the_trainings_behind_each_other(scheduled):
    a, b = (Stage(name, add, Toy(1), resources=_ASIDE) for name in "ab")
    behind = [Stage(f"on-{s.name}", add, Toy(2), {"up": s}, resources=_TRAINING) for s in (a, b)]
    schedule = scheduled(*behind)
    assert _move(schedule, "a", 2.0) == "start"
    _set(schedule, b="leased")
    assert _move(schedule, "a", 2.0) == "start"  # who knows when the other driver is done
    _set(schedule, a="done", b="queued")
    assert _move(schedule, "on-a", 2.0) == "start"
    assert _move(schedule, "b", 2.0) is None  # that one is still to come, and held by nothing
    _set(schedule, **{"on-a": "done"})
    assert _move(schedule, "b", 2.0) == "start"


def test_trainings_that_give_way_do_not_wait_for_each_other(scheduled):
    needs = replace(_TRAINING, gives_way=True)
    schedule = scheduled(*(Stage(name, add, Toy(1), resources=needs) for name in "ab"))
    assert _move(schedule, "a", 2.0) == "start"
    _set(schedule, a="running")
    assert _move(schedule, "b", 2.0) is None


def test_what_another_driver_had_is_asked_for_beside_a_training(schedule):
    schedule = schedule()
    _set(schedule, first="done", second="running", measured="leased")
    assert _move(schedule, "measured", 2.0) == "start"  # its lease is taken first, or is not


def test_trainings_in_the_stages_own_process_count():
    own = training_resources(ScalingConfig(num_workers=0, cpus_per_worker=0.5))
    assert (own.workers, own.training_cpus) == (0, 1.0)
    assert training_resources(ScalingConfig(num_workers=0, gpus_per_worker=1)).training_cpus == 0
    assert training_resources(ScalingConfig(cpus_per_worker=3.0)).training_cpus == 6.0


def test_it_waits_for_a_training_without_workers(schedule):
    schedule = schedule(training_resources(ScalingConfig(num_workers=0)))
    _set(schedule, first="done", second="running")
    assert _move(schedule, "measured", 1.0) is None
    assert _move(schedule, "measured", 2.0) == "start"


def test_what_a_training_keeps_busy_changes_no_fingerprint():
    stage = Stage("first", add, Toy(1), resources=_TRAINING)
    without = replace(stage, resources=replace(_TRAINING, training_cpus=0.0))
    assert fingerprint(stage) == fingerprint(without)


def test_elastic_trainings_count_with_their_most_workers():
    elastic = training_resources(ScalingConfig(num_workers=4, min_workers=1))
    assert (elastic.workers, elastic.training_cpus) == (1, 4.0)


def test_trainings_side_by_side_are_added_up(scheduled):
    trainings = [Stage(name, add, Toy(1), resources=_TRAINING) for name in "tuv"]
    schedule = scheduled(*trainings, Stage("measured", add, Toy(2), resources=_ASIDE))
    assert _move(schedule, "measured", 3.0) == "start"  # beside any one of them
    _set(schedule, t="running", u="starting")
    assert _move(schedule, "measured", 4.0) is None
    assert _move(schedule, "measured", 5.0) == "start"


def test_a_training_started_early_takes_turns_with_the_one_before(scheduled):
    first = Stage("first", add, Toy(1), resources=_TRAINING)
    second = Stage("second", add, Toy(2), {"up": first}, resources=_TRAINING)
    schedule = scheduled(second, Stage("measured", add, Toy(3), resources=_ASIDE))
    _set(schedule, first="running", second="starting")
    assert _move(schedule, "measured", 2.0) is None
    assert _move(schedule, "measured", 3.0) == "start"


def test_a_cluster_that_can_grow_is_asked_for_nodes(schedule):
    schedule = schedule()
    _set(schedule, first="done", second="running")
    measured = schedule.statuses["measured"]
    assert schedule.move(measured, 0.0, 2.0, 2.0) is None
    assert schedule.move(measured, 0.0, 2.0, 8.0) == "start"
    assert schedule.move(measured, 0.0, 8.0, 2.0) == "start"
    assert Nodes({"CPU": 2.0}, 1.0, {"CPU": 8.0}).most_cpus == 8.0
    assert Nodes({"CPU": 2.0}, 1.0).most_cpus == 0.0


@pytest.mark.parametrize("end", ["running", "not run"])
def test_it_says_what_it_waits_for_until_it_starts(schedule, end):
    schedule = schedule()
    _set(schedule, first="done")
    measured = schedule.statuses["measured"]
    measured.detail = "worker died, retry 1"
    for _ in range(2):
        assert _move(schedule, "measured", 2.0) is None
        assert measured.detail == "gives way to second"
    _set(schedule, measured=end)
    assert measured.detail == "worker died, retry 1"


def test_many_that_wait_for_the_same_are_one_line(scheduled):
    training = Stage("training", add, Toy(1), resources=_TRAINING)
    aside = [Stage(f"m{n}", add, Toy(2), resources=_ASIDE) for n in range(30)]
    schedule, stream = scheduled(training, *aside), io.StringIO()
    with Display(stream) as display:
        for state in ("queued", "running"):
            _set(schedule, training=state)
            for stage in aside:
                assert _move(schedule, stage.name, 2.0) is None
            display(list(schedule))
        _set(schedule, training="done", m0="running")
        display(list(schedule))
    lines = [line.split(" ", 2)[2].strip() for line in stream.getvalue().splitlines()]
    assert lines == [
        "m0 and 29 more: queued: gives way to training",
        "training: running: never run",
        *("training: done in 0.0 s", "m0: running: never run"),
    ]


def test_others_start_beside_a_training(schedule):
    schedule = schedule(aside=Resources(num_cpus=1.0))
    _set(schedule, first="done", second="running")
    assert _move(schedule, "measured", 2.0) == "start"
