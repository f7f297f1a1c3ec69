"""What the dashboard reads: sweeps and runs as their files say, going on, ended or killed."""

import dataclasses
import io
import json
import subprocess
import types

import optuna
import pytest
from sweep_toys import build

from momo_platform.stages.run_record import RunRecord, holder
from momo_platform.stages.storage.local_leases import LocalLeases
from momo_platform.sweeps import Sweep
from momo_platform.sweeps.dashboard import DashboardOptions, serve
from momo_platform.sweeps.dashboard_page import state_page
from momo_platform.sweeps.folder import DEFINITION, RECORD
from momo_platform.sweeps.follow import Follower
from momo_platform.sweeps.overview import overview
from momo_platform.sweeps.rows import TrialRow

SWEEP = Sweep("s", build, "m", arms={n: {"x": n} for n in "abcdef"}, seeds=(0, 1))


def trial(number):
    return types.SimpleNamespace(trial_id=f"t{number}", config={"number": number}, last_result={})


def ended(folder, number, value):
    """A finished trial's row, as the follower keeps it."""
    label = list(SWEEP.arms)[number]
    seeds = {"0": {"m": value}, "1": {"m": value + 0.01}}
    row = TrialRow(f"{number:05d}", label, {"arm": label}, [{}], "done", seeds, {}, 60.0)
    (folder / "rows").mkdir(parents=True, exist_ok=True)
    (folder / "rows" / f"{number:05d}.json").write_text(json.dumps(dataclasses.asdict(row)))


@pytest.fixture
def going(tmp_path):
    """A sweep of six arms: two are done, one runs; two run at once."""
    folder = tmp_path / "sweeps" / "s"
    ended(folder, 0, 0.5)
    ended(folder, 1, 0.8)
    (folder / DEFINITION).write_text(json.dumps(SWEEP.definition()))
    study = optuna.create_study()
    follower = Follower(SWEEP, folder, io.StringIO(), study, verbose=False, concurrency=2)
    follower.know(list(follower.kept.found.values()))
    follower.begin(trial(2))
    progress = {"step": 3, "total": 4, "metrics": {"toy": 0.5}, "state": "running"}
    for step in (1, 2, 3):
        stages = {"fit": progress | {"step": step, "machine": "node7"}}
        follower.take({"c": {"seed": 1, "stages": stages}})
    follower.record("running")
    yield follower
    follower.close()


def test_a_sweep_that_goes_on(tmp_path, going):
    (view,) = overview(tmp_path).sweeps
    assert (view.state, view.total, view.done, view.running, view.failed) == ("running", 6, 2, 1, 0)
    assert "b: m 0.805 (" in view.best
    assert view.left == "about 2 min left"  # four of a minute each, two at once
    (working,) = view.working
    assert (working.stage, working.machine, working.share) == ("fit", "node7", 0.75)
    assert working.trial == "c, seed 1"
    assert [chart.title for chart in view.charts] == ["m by trial", "fit, loss toy"]
    page = state_page(overview(tmp_path))
    assert "2 of 6 trials done, 1 running" in page
    assert "Best so far" in page


def test_a_sweep_that_was_killed_or_has_ended(tmp_path, going):
    file = tmp_path / "sweeps" / "s" / RECORD
    process = subprocess.Popen(["true"])
    process.wait()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pid": process.pid}))
    (view,) = overview(tmp_path).sweeps
    assert (view.state, view.running, view.left, view.working) == ("killed", 0, "", [])
    going.end(trial(2), failed=True)
    going.record("ended")
    (view,) = overview(tmp_path).sweeps
    assert (view.state, view.done, view.failed, view.left) == ("ended", 2, 1, "")
    file.unlink()  # of a sweep that an earlier version ran
    (view,) = overview(tmp_path).sweeps
    assert (view.state, view.done) == ("unknown", 2)


def test_curves_of_a_running_trial_are_thinned_and_go_with_it(tmp_path, going):
    for step in range(4, 400):
        progress = {"step": step, "metrics": {"toy": 0.5}, "state": "running"}
        going.take({"c": {"seed": 1, "stages": {"fit": progress}}})
    going.record("running")
    document = json.loads((tmp_path / "sweeps" / "s" / RECORD).read_text())
    points = document["running"][0]["curves"]["fit"]["toy"]
    assert 100 <= len(points) <= 200
    assert points[-1][0] == 399
    going.end(trial(2), failed=False)
    going.take(
        {"c": {"seed": 1, "stages": {}, "ended": {"fit": {"step": 401, "metrics": {"toy": 0.4}}}}}
    )
    going.record("running")
    assert json.loads((tmp_path / "sweeps" / "s" / RECORD).read_text())["running"] == []


def stage(name, state, **fields):
    values = {"seconds": 5.0, "error": "", "detail": "", "machine": "node7", "progress": {}}
    entry = types.SimpleNamespace(name=name, fingerprint="0" * 12)
    return types.SimpleNamespace(entry=entry, state=state, **(values | fields))


def test_runs_stand_with_their_stages_curves_and_failures(tmp_path):
    log = tmp_path / "fit" / ("0" * 12) / "checkpoints" / "metrics.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text(
        '{"step": 1, "loss/mim": 2.0}\n{"step": 2, "loss/mim": 1.0, "valid/loss/mim": 1.5}\n'
    )
    leases = LocalLeases()
    leases.acquire(log.parent.parent)
    other = subprocess.Popen(["sleep", "60"])
    elsewhere = tmp_path / "prepare" / ("1" * 12)
    elsewhere.mkdir(parents=True)
    (elsewhere / "lease.json").write_text(
        json.dumps(holder() | {"pid": other.pid, "start_ticks": "", "token": "x"})
    )
    progress = {"step": 2, "total": 4, "metrics": {"mim": 1.0}}
    try:
        with RunRecord(tmp_path / "logs" / "demo.json", "full.py --preset demo") as record:
            record([stage("fit", "running", progress=progress), stage("a", "done")], "1 of 2")
            seen = overview(tmp_path)
            (run,) = seen.runs
            assert (run.state, run.done, run.total, run.job) == ("running", 1, 2, "1 of 2")
            assert run.working[0].text == "step 2/4  mim 1  for 5.0 s"
            assert run.working[0].share == 0.5
            (chart,) = run.charts
            assert [name for name, _ in chart.keys] == ["training", "held-out"]
            # What this run makes stands in its record, what another process makes by its lease.
            assert seen.leases == [("prepare", f"{holder()['host']}, process {other.pid}")]
            record([stage("fit", "failed", error="Traceback\nValueError: no")], "0 of 2")
    finally:
        other.kill()
        other.wait()
        leases.close()
    (run,) = overview(tmp_path).runs
    assert run.failed == [("fit", "ValueError: no")]
    assert overview(tmp_path).active == 0
    assert "nothing runs here now" in state_page(overview(tmp_path))


def test_a_storage_without_sweeps_has_a_dashboard_of_its_runs(tmp_path):
    with RunRecord(tmp_path / "logs" / "demo.json", "full.py --preset demo"):
        pass
    with serve(DashboardOptions(storage=str(tmp_path), port=18400)) as links:
        assert [link.name for link in links][:2] == ["Dashboard", "TensorBoard"]
