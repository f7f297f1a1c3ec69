"""What lies below a run fails: its storage for a moment or for good, a process of its Ray."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import shims
from processes import descendants

DRIVER = Path(__file__).with_name("storage_driver.py")


@contextlib.contextmanager
def driver(storage, seconds, *names, faults=()):
    paths = os.pathsep.join(dict.fromkeys([str(DRIVER.parent), *(p for p in sys.path if p)]))
    environment = {**os.environ, "PYTHONPATH": paths}
    if faults:
        environment |= shims.environment(*faults)
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


def test_where_ray_itself_dies_a_line_says_so_and_the_lease_is_given_back(tmp_path):
    storage = tmp_path / "runs"
    with driver(storage, 60, "slow") as process:
        deadline = time.monotonic() + 60
        while not list(storage.glob("slow/*/begun")):
            assert process.poll() is None, process.stdout.read() if process.stdout else ""
            assert time.monotonic() < deadline
            time.sleep(0.05)
        found = descendants(process.pid)
        (raylet,) = [pid for pid, command in found.items() if "/raylet/raylet " in command]
        os.kill(raylet, signal.SIGKILL)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in output
    assert output.strip().splitlines()[-1].startswith("Ray ended under the run")
    assert not list(storage.glob("slow/*/lease.json"))
