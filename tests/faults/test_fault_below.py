"""What lies below a run fails: its storage for a moment or for good, its Ray, its clock."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import shims
from processes import descendants

DRIVER = Path(__file__).with_name("storage_driver.py")


@contextlib.contextmanager
def driver(storage, seconds, *names, faults=(), clock=None):
    paths = os.pathsep.join(dict.fromkeys([str(DRIVER.parent), *(p for p in sys.path if p)]))
    environment = {**os.environ, "PYTHONPATH": paths}
    if faults or clock:
        environment |= shims.environment(*faults, clock=clock)
    process = subprocess.Popen(
        [sys.executable, str(DRIVER), str(storage), str(seconds), *names],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    try:
        yield process
    finally:
        below = descendants(process.pid)
        process.kill()
        process.communicate()
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_write_that_fails_once_is_tried_again_and_one_that_always_fails_is_told_in_a_line(
    tmp_path,
):
    once = shims.times(1, ("write",), "EIO", "/passes.txt", tmp_path / "struck")
    always = shims.Fault(("write",), "ESTALE", "/stays.txt")
    names = ("passes", "stays")
    with driver(tmp_path / "runs", 0, *names, faults=(once, always)) as process:
        output, _ = process.communicate(timeout=120)
    assert shims.struck(once) == 1
    assert "\npasses done" in output
    assert len(list((tmp_path / "runs").glob("passes/*/manifest.json"))) == 1
    assert process.returncode == 1
    (line,) = [text for text in output.splitlines() if text.startswith("stage stays failed: ")]
    assert "Stale file handle" in line
    assert "Traceback" not in output


def wait_for_begun(process, storage):
    """The folder of the artifact whose stage has begun."""
    deadline = time.monotonic() + 60
    while not (begun := list(storage.glob("*/*/begun"))):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return begun[0].parent


def test_a_stage_whose_helper_died_is_tried_again(tmp_path):
    with driver(tmp_path / "runs", 0, "helped") as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "helped queued worker lost, retry 1" in output


def test_where_ray_itself_dies_a_line_says_so_and_the_lease_is_given_back(tmp_path):
    storage = tmp_path / "runs"
    with driver(storage, 60, "slow") as process:
        wait_for_begun(process, storage)
        found = descendants(process.pid)
        (raylet,) = [pid for pid, command in found.items() if "/raylet/raylet " in command]
        os.kill(raylet, signal.SIGKILL)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in output
    assert output.strip().splitlines()[-1].startswith("Ray ended under the run")
    assert not list(storage.glob("slow/*/lease.json"))


@pytest.mark.slow
def test_a_training_that_ray_does_not_start_since_the_clock_went_back_ends_with_a_line(tmp_path):
    """Ray itself waits until its wall clock has caught up: an hour, in silence."""
    storage, clock = tmp_path / "runs", tmp_path / "clock"
    shims.step_clock(clock, 0)
    with driver(storage, 0, "asks", clock=clock) as process:
        folder = wait_for_begun(process, storage)
        shims.step_clock(clock, -3600)
        (folder / "go").touch()
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert output.strip().splitlines()[-1].startswith("this machine's clock went back by 3600 s")
