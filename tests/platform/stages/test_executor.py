"""The executor on a real Ray: order, failures, crashes, killed and interrupted drivers."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from making import make
from toy_stages import EARLY, Toy, add, chain, count_steps, crash_once, early, fail, restart_late

from momo_platform.stages import (
    Resources,
    Stage,
    StageFailed,
    UserError,
    make_plan,
    open_storage,
)
from momo_platform.stages.executor import execute
from momo_platform.stages.status import check_feasible
from momo_platform.stages.storage.local_leases import LocalLeases


@pytest.fixture
def storage(tmp_path):
    return open_storage(tmp_path / "runs")


class Recorder:
    """Every stage's states in the order they were seen."""

    def __init__(self):
        self.states, self.progress, self.details = {}, {}, {}

    def __call__(self, statuses):
        for status in statuses:
            seen = self.states.setdefault(status.entry.name, [])
            if not seen or seen[-1] != status.state:
                seen.append(status.state)
            if status.detail:
                self.details[status.entry.name] = status.detail
            self.progress[status.entry.name] = dict(status.progress)


def test_a_graph_runs_once_and_only_what_changed_runs_again(ray_local, storage):
    seen = Recorder()
    left = Stage("left", add, Toy(2), {"up": chain(1)[0]})
    right = Stage("right", count_steps, Toy(2, seconds=0.3), {"up": chain(1)[0]})
    end = Stage("end", add, Toy(4), {"left": left, "right": right})
    artifacts = execute(make_plan([end], storage), storage, seen)
    assert artifacts["end"].metrics == {"sum": 9}
    assert seen.progress["right"] == {"step": 2, "total": 2}
    assert seen.states["end"][-1] == "done"
    assert make_plan([end], storage).to_run == ()
    other = Stage("end", add, Toy(5), {"left": left, "right": right})
    seen = Recorder()
    assert execute(make_plan([other], storage), storage, seen)["end"].metrics == {"sum": 10}
    assert {name for name, states in seen.states.items() if states == ["cached"]} == {
        "s0",
        "left",
        "right",
    }


def test_where_nothing_is_to_run_no_lease_is_asked_for(ray_local, storage, monkeypatch):
    (stage,) = chain(1)
    make(storage, stage)
    monkeypatch.setattr(storage, "leases", lambda: pytest.fail("a lease was asked for"))
    assert execute(make_plan([stage], storage), storage)["s0"].name == "s0"


def test_a_failed_stage_stops_only_what_needs_it(ray_local, storage):
    bad = Stage("bad", fail, Toy(message="no such picture"), {"up": chain(1)[0]})
    behind = Stage("behind", add, Toy(), {"bad": bad})
    sibling = Stage("sibling", add, Toy(2, seconds=2.0), {"up": chain(1)[0]})
    seen = Recorder()
    with pytest.raises(StageFailed, match=r"stage bad failed: (.|\n)*no such picture") as caught:
        execute(make_plan([behind, sibling], storage), storage, seen)
    assert "not run: behind" in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert seen.states["sibling"][-1] == "done"
    assert seen.states["behind"][-1] == "not run"
    plan = make_plan([behind, sibling], storage)
    assert [e.name for e in plan.to_run] == ["bad", "behind"]


def test_user_errors_come_without_a_traceback(ray_local, storage):
    with pytest.raises(StageFailed) as caught:
        execute(make_plan([Stage("a", complain, Toy())], storage), storage)
    assert str(caught.value) == "stage a failed: images.source /x: no such folder"


def complain(config, inputs, context):
    raise UserError("images.source /x: no such folder")


def test_a_killed_worker_is_retried(ray_local, storage, tmp_path):
    seen = Recorder()
    stage = Stage("a", crash_once, Toy(7, crash_file=str(tmp_path / "crashed")))
    assert execute(make_plan([stage], storage), storage, seen)["a"].metrics == {"sum": 7}
    assert seen.details["a"] == "worker lost, retry 1"


def test_an_early_starter_waits_inside_for_its_inputs(ray_local, storage):
    seen = Recorder()
    slow = Stage("slow", count_steps, Toy(4, seconds=0.5))
    stage = Stage("next", early, Toy(1), {"up": slow}, resources=EARLY)
    artifacts = execute(make_plan([stage], storage), storage, seen)
    assert artifacts["next"].metrics["sum"] == 5
    assert artifacts["next"].metrics["waited"] > 0
    assert "starting" in seen.states["next"]


def test_an_early_starter_whose_input_fails_is_not_run(ray_local, storage):
    seen = Recorder()
    bad = Stage("bad", fail_late, Toy())
    stage = Stage("next", early, Toy(1), {"up": bad}, resources=EARLY)
    with pytest.raises(StageFailed, match="not run: next"):
        execute(make_plan([stage], storage), storage, seen)
    assert seen.states["next"] == ["starting", "not run"]


def test_an_early_starter_makes_room_for_an_input_that_starts_again(ray_local, storage):
    seen = Recorder()
    trainer = Resources(workers=1, worker_cpus=0.1)
    slow = Stage("slow", restart_late, Toy(4, seconds=1.5), resources=trainer)
    # A second, so that it is seen at work: on a busy machine the display is called less often.
    stage = Stage("next", early, Toy(1, seconds=1.0), {"up": slow}, resources=EARLY)
    artifacts = execute(make_plan([stage], storage), storage, seen)
    assert artifacts["next"].metrics["sum"] == 5
    wanted = ["queued", "starting", "queued", "starting", "running", "done"]
    assert seen.states["next"] == wanted


def fail_late(config, inputs, context):
    time.sleep(1.5)
    fail(config, inputs, context)


def test_made_again_with_equal_content_leaves_dependants_cached(ray_local, storage):
    first, second = chain(1, 2)
    make(storage, second)
    seen = Recorder()
    execute(make_plan([second], storage, rerun=["s0"]), storage, seen)
    assert seen.states == {"s0": ["running", "done"], "s1": ["queued", "cached"]}
    changed = Stage("s0", add_hundred, first.config)  # other code, the same fingerprint
    second = Stage("s1", add, second.config, {"up": changed})
    artifacts = execute(make_plan([second], storage, rerun=["s0"]), storage, seen)
    assert artifacts["s1"].metrics == {"sum": 103}


def add_hundred(config, inputs, context):
    (context.output / "sum.json").write_text(str(config.value + 100))


def test_a_stage_that_another_driver_makes_is_waited_for(ray_local, storage):
    (stage,) = chain(1)
    plan = make_plan([stage], storage)
    other = LocalLeases()
    folder = storage.folder("s0", plan["s0"].fingerprint)
    other.acquire(folder)

    def finish():
        time.sleep(1.0)
        make(storage, stage)
        other.release(folder)

    thread = threading.Thread(target=finish)
    thread.start()
    seen = Recorder()
    execute(plan, storage, seen)
    thread.join()
    other.close()
    assert seen.states["s0"] == ["leased", "cached"]


def test_a_stage_that_another_driver_made_after_the_plan_is_not_made_again(ray_local, storage):
    (stage,) = chain(1)
    plan = make_plan([stage], storage)
    make(storage, stage)  # begun and ended between the plan and our lease
    seen = Recorder()
    execute(plan, storage, seen)
    assert seen.states["s0"] == ["cached"]
    assert seen.details["s0"] == "made by another driver"
    seen = Recorder()
    execute(make_plan([stage], storage, rerun=["s0"]), storage, seen)
    assert seen.states["s0"] == ["running", "done"]


def test_a_stage_too_large_for_the_cluster_is_refused_at_once(storage):
    needs = Resources(workers=4, worker_cpus=1.0, worker_gpus=0.5)
    plan = make_plan([Stage("big", add, Toy(), resources=needs)], storage)
    with pytest.raises(UserError, match="stage big needs 2 GPU at once, the cluster has 0"):
        check_feasible(plan, {"CPU": 8.0})
    check_feasible(plan, {"CPU": 4.0, "GPU": 2.0})


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_driver_goes_on_where_it_was(storage, sign):
    """A driver of its own Ray, stopped after some steps; the same command then ends the job."""
    here = Path(__file__).parent
    command = [sys.executable, str(here / "toy_driver.py"), str(storage.local_root)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
    )
    deadline = time.time() + 60
    while not list(storage.local_root.glob("count/*/checkpoints/step-00000003/manifest.json")):
        assert time.time() < deadline, process.communicate(timeout=1)
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(sign)
    process.wait(timeout=30)
    assert process.returncode != 0
    if sign == signal.SIGINT:
        assert not list(storage.local_root.glob("*/*/lease.json"))
    again = subprocess.run(command, capture_output=True, text=True, env=env, timeout=90)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "sum 13" in again.stdout
    assert "s0: cached" in again.stdout
    (stage,) = chain(1)
    counter = Stage("count", count_steps, Toy(12, seconds=0.5), {"up": stage})
    entry = make_plan([counter], storage)["count"]
    artifact = storage.artifact("count", entry.fingerprint)
    assert artifact is not None
    assert artifact.metrics["resumed_at"] >= 3
    assert [p.name for p in artifact.path.parent.glob("attempt-*")] == [artifact.path.name]


def test_a_stage_whose_nodes_never_come_says_what_it_waited_for(ray_local, storage):
    plan = make_plan([Stage("large", add, Toy(1), resources=Resources(num_gpus=4))], storage)
    with pytest.raises(UserError, match="large needs 4 GPU at once, the cluster has 0"):
        execute(plan, storage)
    seen = Recorder()
    told = r"no nodes with 4 GPU \(the cluster has 0\) came within 1 s"
    with pytest.raises(StageFailed, match=told):
        execute(plan, storage, seen, growth={"GPU": 8}, wait_seconds=1)
    assert seen.states["large"] == ["running", "failed"]  # started before the first look
    with pytest.raises(UserError, match="large needs 4 GPU at once, the cluster has 2"):
        execute(plan, storage, growth={"GPU": 2})
