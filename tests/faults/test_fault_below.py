"""What lies below a run fails: its storage for a moment or for good, its Ray, its clock."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import shims
from processes import descendants

from momo_platform.cluster import answers
from momo_platform.machine import free_ports

HERE = Path(__file__).parent


def driver(storage, seconds, *names, faults=(), clock=None):
    more = shims.environment(*faults, clock=clock) if faults or clock else {}
    return started("storage_driver.py", storage, seconds, *names, more=more)


@contextlib.contextmanager
def started(script, *arguments, more=None):
    """A script of this folder; it and what it started end with the block."""
    paths = os.pathsep.join(dict.fromkeys([str(HERE), *(p for p in sys.path if p)]))
    environment = {**os.environ, "PYTHONPATH": paths, **(more or {})}
    process = subprocess.Popen(
        [sys.executable, str(HERE / script), *map(str, arguments)],
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


@pytest.mark.slow
def test_what_may_pass_is_tried_again_and_what_stays_is_told_in_a_line(tmp_path):
    """A write that fails once, a process that dies once; a write that always fails."""
    once = shims.times(1, ("write",), "EIO", "/passes.txt", tmp_path / "struck")
    always = shims.Fault(("write",), "ESTALE", "/stays.txt")
    names = ("passes", "stays", "helped")
    with driver(tmp_path / "runs", 0, *names, faults=(once, always)) as process:
        output, _ = process.communicate(timeout=120)
    assert shims.struck(once) == 1
    assert "\npasses done" in output
    assert "\nhelped queued worker lost, retry 1" in output
    assert "\nhelped done" in output
    assert len(list((tmp_path / "runs").glob("passes/*/manifest.json"))) == 1
    assert process.returncode == 1
    (line,) = [text for text in output.splitlines() if text.startswith("stage stays failed: ")]
    assert "Stale file handle" in line
    assert "Traceback" not in output


# As Ray Data tells of an error in its tasks.
MAPPED = """  File "rows.py", line 119, in _prepare_row
    raw = raw_picture(row, embedded)
OSError: [Errno {0}] Failed stat()ing path '/a/b.svg'. Detail: [errno {0}] {1}

The above exception was the direct cause of the following exception:

ray::MapBatches(PrepareImages)() (pid=14853, ip=127.0.0.1)
ray.exceptions.UserCodeException: UDF failed to process a data block.
To change retry attempts, backoff, or which errors are retried, configure `DataContext`.
"""


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ESTALE, "Stale file handle"), (errno.EINVAL, "")]
)
def test_what_may_pass_is_known_below_ray_datas_own_words(number, words):
    from momo_platform.stages.run_faults import passing

    assert passing(RuntimeError(MAPPED.format(number, os.strerror(number)))) == words


def wait_for(condition, process):
    deadline = time.monotonic() + 90
    while not (found := condition()):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def wait_for_begun(process, storage):
    """The folder of the artifact whose stage has begun."""
    return wait_for(lambda: list(storage.glob("*/*/begun")), process)[0].parent


def kill_below(process, name):
    """One of Ray's own processes."""
    found = descendants(process.pid)
    (pid,) = [p for p, command in found.items() if f"/{name} " in command.partition("--")[0]]
    os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_where_ray_itself_dies_a_line_says_so_and_the_lease_is_given_back(tmp_path, name):
    storage = tmp_path / "runs"
    with driver(storage, 60, "slow") as process:
        wait_for_begun(process, storage)
        kill_below(process, name)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in output
    assert "\nRay ended under the run" in output
    assert not list(storage.glob("slow/*/lease.json"))


@pytest.mark.slow
def test_where_a_call_waits_for_a_dead_ray_a_line_still_says_so(tmp_path):
    ready = tmp_path / "ready"
    with started("ray_driver.py", "local", ready) as process:
        wait_for(ready.exists, process)
        kill_below(process, "gcs_server")
        ready.unlink()
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "\nRay ended under the run (its gcs_server died)" in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_where_the_head_of_a_cluster_dies_a_line_says_so(tmp_path):
    (port,), ready = free_ports(1), tmp_path / "ready"
    with tempfile.TemporaryDirectory() as short:
        options = ["--head", "--block", "--num-cpus=1", f"--port={port}", f"--temp-dir={short}"]
        options += ["--include-dashboard=false", "--object-store-memory=100000000"]
        ray = Path(sys.executable).parent / "ray"
        head = subprocess.Popen([ray, "start", *options], stdout=subprocess.DEVNULL)
        try:
            wait_for(lambda: answers(f"127.0.0.1:{port}"), process=head)
            with started("ray_driver.py", f"127.0.0.1:{port}", ready) as process:
                wait_for(ready.exists, process)
                kill_below(head, "gcs_server")
                ready.unlink()
                output, _ = process.communicate(timeout=120)
        finally:
            below = descendants(head.pid)
            head.terminate()
            head.wait(30)
            for pid in below:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    assert process.returncode == 1
    assert "\nthe cluster's head does not answer" in output


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
