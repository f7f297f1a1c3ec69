"""Sweeps on a real Ray: shared stages, failed trials, early stops, populations, kill and resume."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sweep_driver import sweep as killed_sweep
from sweep_toys import build, lines

from momo_platform.stages import UserError
from momo_platform.sweeps import Choice, Interval, Stopping, Sweep
from momo_platform.sweeps.driver import SweepOptions, run_sweep
from momo_platform.sweeps.folder import sweep_folder
from momo_platform.sweeps.report import write_report
from momo_platform.sweeps.rows import read_results

ARMS = {
    "plain": {"quality": 0.5},
    "better": {"quality": 0.7},
    "broken": {"quality": 0.9, "fails": True},
}


def options(tmp_path, **more):
    return SweepOptions(storage=str(tmp_path / "runs"), verbose=True, **more)


def arms(tmp_path, **more):
    base = {"folder": str(tmp_path)}
    return Sweep("toys", build, "score", base=base, arms=ARMS, seeds=(0, 1, 2), **more)


def test_arms_share_stages_and_a_failed_one_is_a_row(tmp_path, ray_local):
    sweep = arms(tmp_path, show=("nested/*",))
    results = run_sweep(sweep, options(tmp_path), ["experiments/toys.py"])
    plain, better, broken = results.rows
    assert [r.label for r in results.rows] == list(ARMS)
    assert [r.state for r in results.rows] == ["done", "done", "failed"]
    assert plain.values("score") == pytest.approx([0.5, 0.51, 0.52])
    assert results.ranked == [better, plain]
    assert better.difference(plain, "score").mean == pytest.approx(0.2)
    assert "toy failure" in broken.error
    assert "seed 0" in broken.error
    assert lines(tmp_path).count("common") == 1  # one trial made it, the others took it
    assert list(results.shown) == ["score", "nested/double"]
    page = write_report(results, sweep, str(tmp_path / "runs"), sweep_folder_of(tmp_path, sweep))
    text = page.read_text()
    assert "toy failure" in text
    assert text.count("<polyline") == 2 + 2  # parallel coordinates, and the loss of the two
    assert "http://" not in text.replace("http://www.w3.org", "")
    table = (page.parent / "table.md").read_text()
    assert "| better | 3 | 0.71 (0.6852 – 0.7348)" in table
    import optuna

    study = optuna.load_study(
        study_name="toys", storage=f"sqlite:///{sweep_folder_of(tmp_path, sweep)}/study.db"
    )
    assert study.best_params == {"arm": "better"}
    assert len(study.trials) == 3

    again = run_sweep(sweep, options(tmp_path))  # the failed one is tried again, the others not
    assert [r.state for r in again.rows] == ["done", "done", "failed"]
    started = [line for line in lines(tmp_path) if line.startswith("start")]
    assert len(started) == 3 + 3 + 2
    assert again.rows[0].seeds == plain.seeds


def sweep_folder_of(tmp_path, sweep):
    from momo_platform.stages import open_storage

    return sweep_folder(open_storage(str(tmp_path / "runs")), sweep.name)


def test_what_does_not_fit_is_said_before_anything_starts(tmp_path, ray_local):
    big = dataclasses.replace(arms(tmp_path), base={"folder": str(tmp_path), "cpus": 64.0})
    with pytest.raises(UserError, match=r"toys can't fit: stage toy needs 64 CPU"):
        run_sweep(big, options(tmp_path))
    with pytest.raises(UserError, match="--concurrency 3: the cluster holds 2"):
        run_sweep(arms(tmp_path), options(tmp_path, concurrency=3, fresh=True))
    assert lines(tmp_path) == []


@pytest.mark.slow
def test_another_sweep_of_the_same_name_is_refused(tmp_path, ray_local):
    with pytest.raises(UserError, match="--resume: no sweep toys"):
        run_sweep(arms(tmp_path), options(tmp_path, resume=True))
    one = dataclasses.replace(arms(tmp_path), arms={"plain": ARMS["plain"]})
    run_sweep(one, options(tmp_path))
    with pytest.raises(UserError, match=r"defined otherwise \(arms changed\): --fresh"):
        run_sweep(arms(tmp_path), options(tmp_path))
    two = dataclasses.replace(arms(tmp_path), arms={n: ARMS[n] for n in ("plain", "better")})
    run_sweep(two, options(tmp_path, fresh=True))
    assert sum(line.startswith("start 0.5") for line in lines(tmp_path)) == 3  # taken from storage


def test_rows_are_known_by_what_they_are_not_by_their_place(tmp_path, ray_local):
    names = ("plain", "better")
    sweep = dataclasses.replace(arms(tmp_path), arms={n: ARMS[n] for n in names}, seeds=(0,))
    run_sweep(sweep, options(tmp_path))
    turned = dataclasses.replace(sweep, arms={n: ARMS[n] for n in names[::-1]})
    results = run_sweep(turned, options(tmp_path))
    assert {row.label: row.values("score") for row in results.rows} == {
        "plain": [0.5],
        "better": [0.7],
    }
    assert results.reference.label == "better"


def test_no_more_trials_run_at_once_than_asked(tmp_path, ray_local):
    base = {"folder": str(tmp_path), "step_seconds": 0.1, "cpus": 0.5}
    two = {name: ARMS[name] for name in ("plain", "better")}
    sweep = Sweep("single", build, "score", base=base, arms=two)
    run_sweep(sweep, options(tmp_path, concurrency=1))
    kinds = [line.split()[0] for line in lines(tmp_path) if line != "common"]
    assert kinds == ["start", "done"] * 2


@pytest.mark.slow
def test_asha_stops_trials_and_their_processes(tmp_path, ray_local):
    before = ray_local.available_resources()["CPU"]
    sweep = Sweep(
        "halving",
        build,
        "score",
        base={"folder": str(tmp_path), "step_seconds": 0.4, "steps": 20},
        space={"quality": Choice((0.9, 0.1, 0.2, 0.8))},
        stopping=Stopping("asha", stage="toy", loss="toy", steps=20, grace_steps=2, reduction=2),
    )
    results = run_sweep(sweep, options(tmp_path))
    states = {row.parameters["quality"]: row.state for row in results.rows}
    assert "stopped" in states.values()
    assert states[0.9] == "done"
    ended = [line for line in lines(tmp_path) if line.startswith("done")]
    assert len(ended) == sum(s == "done" for s in states.values())
    deadline = time.time() + 20
    while ray_local.available_resources().get("CPU") != before and time.time() < deadline:
        time.sleep(0.2)
    assert ray_local.available_resources()["CPU"] == before
    for row in results.rows:
        if row.state == "stopped":
            assert 2 <= row.steps < 20


@pytest.mark.slow
def test_a_population_goes_on_from_its_best(tmp_path, ray_local):
    sweep = Sweep(
        "population",
        build,
        "score",
        base={"folder": str(tmp_path)},
        space={"quality": Interval(0.0, 1.0)},
        search="random",
        samples=4,
        stopping=Stopping("pbt", segments=3),
    )
    results = run_sweep(sweep, options(tmp_path))
    assert [r.state for r in results.rows] == ["done"] * 4
    assert all(len(r.history) == 3 for r in results.rows)
    for row in results.rows:  # each result is that of its own history
        expected = sum(settings["quality"] for settings in row.history)
        assert row.values("score") == pytest.approx([expected])
    firsts = {row.history[0]["quality"] for row in results.rows}
    assert len(firsts) < 4  # somebody took over what another had trained


@pytest.mark.slow
def test_optuna_searches_and_weighs_parameters(tmp_path, ray_local):
    from momo_platform.sweeps.study import importance

    sweep = Sweep(
        "tpe",
        build,
        "score",
        base={"folder": str(tmp_path)},
        space={"quality": Interval(0.1, 1.0, log=True), "steps": Interval(2, 4, integer=True)},
        search="optuna",
        samples=6,
    )
    results = run_sweep(sweep, options(tmp_path, concurrency=1))
    assert [r.state for r in results.rows] == ["done"] * 6
    assert all(0.1 <= r.parameters["quality"] <= 1.0 for r in results.rows)
    assert {r.parameters["steps"] for r in results.rows} <= {2, 3, 4}
    weights = importance(sweep, results.rows)
    assert list(weights) == ["quality", "steps"]
    assert weights["quality"] > 0.8
    with pytest.raises(UserError, match="--optuna db.invalid/x"):
        run_sweep(sweep, options(tmp_path, fresh=True, optuna="mysql://me:secret@db.invalid/x"))


def _start(storage, folder, log):
    here = Path(__file__).parent
    paths = [str(here), *(p for p in sys.path if p)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.Popen(
        [sys.executable, str(here / "sweep_driver.py"), str(storage), str(folder)],
        stdout=log.open("ab"),
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )


@pytest.mark.slow
def test_killed_half_way_it_goes_on_and_ends_with_the_same_results(tmp_path):
    undisturbed, disturbed = tmp_path / "a", tmp_path / "b"
    for folder in (undisturbed, disturbed):
        folder.mkdir()
    log = tmp_path / "log"
    whole = _start(undisturbed / "runs", undisturbed, log)
    assert whole.wait(timeout=300) == 0, log.read_text()

    first = _start(disturbed / "runs", disturbed, log)
    deadline = time.time() + 200  # six are done, so that two trials at least are rows
    while sum(x.startswith("done") for x in lines(disturbed)) < 6:
        assert time.time() < deadline, log.read_text()
        assert first.poll() is None, log.read_text()
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGKILL)  # the driver and the Ray that it started
    first.wait()
    kept = (disturbed / "runs" / "sweeps" / "killed" / "rows").glob("*.json")
    rows = [json.loads(file.read_text()) for file in kept]
    finished = {(str(r["history"][0]["quality"]), seed, "0") for r in rows for seed in r["seeds"]}
    assert len(finished) >= 2
    time.sleep(2)
    second = _start(disturbed / "runs", disturbed, log)
    assert second.wait(timeout=300) == 0, log.read_text()
    ran = [tuple(x.split()[1:4]) for x in lines(disturbed) if x.startswith("start")]
    for one in finished:
        assert ran.count(one) == 1, one
    files = [f / "runs" / "sweeps" / "killed" / "results.json" for f in (undisturbed, disturbed)]
    ours, theirs = (read_results(file) for file in files)
    assert [r.label for r in ours.rows] == [r.label for r in theirs.rows]
    for one, other in zip(ours.rows, theirs.rows, strict=True):
        assert one.state == other.state == "done"
        assert one.seeds == other.seeds
        assert one.stages == other.stages
    assert json.loads(files[0].read_text())["definition"]["base"] != ""
    assert killed_sweep(str(tmp_path)).trials == 6
