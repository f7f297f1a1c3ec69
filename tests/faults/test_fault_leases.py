"""What fools a lease elsewhere: process numbers, sleep, clocks, file systems; and a lost one."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import shims
from lease_stages import slow_stage

from momo_platform.stages import canonical, fingerprint, make_plan, open_storage
from momo_platform.stages.executor import execute
from momo_platform.stages.storage import local_leases as lease
from momo_platform.stages.storage.local_leases import LocalLeases
from momo_platform.stages.task import StageSpec, run_stage

PROCESS = Path(__file__).with_name("lease_process.py")
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@contextlib.contextmanager
def driver(folder, *faults, clock=None, beats="", prefix=()):
    """(what it printed first, process) of a driver that asks for the folder's lease."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    if faults or clock:
        environment |= shims.environment(*faults, clock=clock)
    command = [*prefix, sys.executable, str(PROCESS), str(folder), *([beats] if beats else [])]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        said = process.stdout.readline().strip() or process.stderr.read()
        yield said, process
    finally:
        process.kill()
        process.communicate()


def another_namespace():
    if shutil.which("unshare") is None or subprocess.run([*UNSHARE, "true"]).returncode:
        pytest.skip("no namespaces of process numbers can be made here")
    return UNSHARE


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def short(monkeypatch):
    """A second of silence is enough."""
    for name in ("SILENT_SECONDS", "EXPIRES_AFTER_SECONDS"):
        monkeypatch.setattr(lease, name, 1.0, raising=False)


@pytest.mark.parametrize("kind", ["", "objects:"])
def test_a_process_number_of_another_container_tells_nothing(tmp_path, kind):
    """Two containers with one host name: the holder's number is nobody's in the taker's."""
    prefix = another_namespace()
    with (
        driver(f"{kind}{tmp_path}/a") as (said, holder),
        driver(f"{kind}{tmp_path}/a", prefix=prefix) as (other, _),
    ):
        assert said == "held"
        assert other == f"{socket.gethostname()}, process {holder.pid}"


def test_after_a_sleep_a_living_process_keeps_its_lease(tmp_path):
    """The machine has slept for an hour: the last heartbeat is old, the holder not yet awake."""
    with driver(tmp_path / "a") as (said, holder):
        assert said == "held"
        holder.send_signal(signal.SIGSTOP)
        hour_ago = time.time() - 3600
        os.utime(tmp_path / "a" / lease.FILE_NAME, (hour_ago, hour_ago))
        with driver(tmp_path / "a") as (other, _):
            assert other == f"{socket.gethostname()}, process {holder.pid}"
        holder.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("kind", ["", "objects:"])
def test_a_clock_ahead_of_the_file_servers_takes_no_living_lease(tmp_path, kind):
    clock = tmp_path / "clock"
    shims.step_clock(clock, 60)
    with (
        driver(f"{kind}{tmp_path}/a") as (said, holder),
        driver(f"{kind}{tmp_path}/a", clock=clock) as (other, _),
    ):
        assert said == "held"
        assert other == f"{socket.gethostname()}, process {holder.pid}"


def test_a_dead_lease_from_the_future_is_taken(tmp_path, short):
    content = {"host": "elsewhere", "pid": 17, "token": "other"}
    (tmp_path / lease.FILE_NAME).write_text(json.dumps(content))
    ahead = time.time() + 3600
    os.utime(tmp_path / lease.FILE_NAME, (ahead, ahead))
    leases = LocalLeases()
    wait_until(lambda: leases.acquire(tmp_path) is None, seconds=10)
    leases.close()


@pytest.mark.parametrize("error", ["EPERM", "EOPNOTSUPP", "ENOSYS", "EMLINK"])
def test_a_file_system_without_hard_links_has_leases(tmp_path, error):
    with driver(tmp_path / "a", shims.no_links("/a/", error)) as (said, holder):
        assert said == "held"
        other = LocalLeases().acquire(tmp_path / "a")
        assert other == f"{socket.gethostname()}, process {holder.pid}"


def test_a_stale_handle_is_looked_up_again(tmp_path):
    content = {"host": "elsewhere", "pid": 17, "token": "other"}
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / lease.FILE_NAME).write_text(json.dumps(content))
    stale = shims.times(2, ("read",), "ESTALE", f"/a/{lease.FILE_NAME}", tmp_path / "struck")
    with driver(folder, stale) as (other, _):
        assert other == "elsewhere, process 17"
    assert shims.struck(stale)


@pytest.mark.parametrize("error", ["EIO", "ESTALE"])
def test_one_heartbeat_that_fails_is_followed_by_others(tmp_path, error):
    failing = shims.times(2, ("change",), error, f"/a/{lease.FILE_NAME}", tmp_path / "struck")
    file = tmp_path / "a" / lease.FILE_NAME
    with driver(tmp_path / "a", failing, beats="0.05") as (said, _):
        assert said == "held"
        wait_until(lambda: shims.struck(failing) == 2)
        os.utime(file, (0, 0))
        wait_until(lambda: file.stat().st_mtime > 1, seconds=10)


def make(storage, stage):
    """Another driver's artifact, made in this process."""
    spec = StageSpec(
        *(stage.name, fingerprint(stage), stage.version, stage.run, stage.config),
        *(canonical(stage.config), {}, stage.code, storage.uri, stage.resources.total),
    )
    run_stage(spec, lambda _: None, dict)


def test_a_lease_lost_in_the_middle_costs_waiting_and_not_the_result(ray_local, tmp_path):
    """Somebody takes over what this driver makes: it waits, and goes on with that artifact."""
    storage = open_storage(tmp_path / "runs")
    stage = slow_stage(3.0, tmp_path / "started")
    plan = make_plan([stage], storage)
    folder = storage.folder("slow", plan["slow"].fingerprint)
    states, other = [], LocalLeases()

    def take_over():
        wait_until(lambda: (tmp_path / "started").exists())
        (folder / lease.FILE_NAME).unlink()
        assert other.acquire(folder) is None
        wait_until(lambda: "leased" in states)
        make(storage, slow_stage())
        other.release(folder)

    thread = threading.Thread(target=take_over)
    thread.start()
    artifacts = execute(plan, storage, lambda statuses: states.append(statuses[0].state))
    thread.join()
    other.close()
    assert list(dict.fromkeys(states)) == ["running", "leased", "cached"]
    assert (artifacts["slow"].path / "value").read_text() == "7"


def test_a_stage_ends_itself_when_its_lease_is_anothers(tmp_path):
    """The driver that could cancel it is stopped: two must not write the same checkpoints."""
    storage = open_storage(tmp_path / "runs")
    stage = slow_stage(120.0, tmp_path / "started")
    plan = make_plan([stage], storage)
    folder = storage.folder("slow", plan["slow"].fingerprint)
    command = [sys.executable, str(PROCESS.with_name("stage_driver.py")), storage.uri]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    stopped = subprocess.Popen(
        [*command, "120", str(tmp_path / "started")],
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    other = LocalLeases()
    try:
        wait_until(lambda: (tmp_path / "started").exists())
        stopped.send_signal(signal.SIGSTOP)
        pid = int((tmp_path / "started").read_text())
        (folder / lease.FILE_NAME).unlink()
        assert other.acquire(folder) is None
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), seconds=30)
        make(storage, slow_stage())
        other.release(folder)
        stopped.send_signal(signal.SIGCONT)
        said, _ = stopped.communicate(timeout=60)
        assert stopped.returncode == 0, said
        assert "slow leased" in said
        assert said.splitlines()[-1] == "all done"
    finally:
        other.close()
        if stopped.poll() is None:
            os.killpg(stopped.pid, signal.SIGKILL)
            stopped.wait()


@pytest.mark.slow
@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_set_while_a_stage_backs_off_delays_nothing(tmp_path, hours):
    """The worker dies, the driver's clock is set, the stage is tried again within seconds."""
    clock, started = tmp_path / "clock", tmp_path / "started"
    shims.step_clock(clock, 0)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, str(PROCESS.with_name("stage_driver.py")), str(tmp_path / "runs")]
    process = subprocess.Popen(
        [*command, "0", str(started), "crash"],
        env=environment | shims.environment(clock=clock),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        for line in process.stdout:
            if "worker lost" in line:
                shims.step_clock(clock, hours * 3600)
                break
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0, said
        (manifest,) = open_storage(tmp_path / "runs").all_manifests()
        assert 0 <= manifest.seconds < 60
    finally:
        process.kill()
        process.wait()


SWEEP = """
import sys
from pathlib import Path
from momo_platform.sweeps import driver
with driver._alone(Path(sys.argv[1])):
    print("alone", flush=True)
    sys.stdin.read()
"""


def test_a_sweep_runs_where_the_file_server_has_no_locks(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    environment |= shims.environment(shims.no_locks(str(tmp_path)))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", SWEEP, str(tmp_path)]
    first = subprocess.Popen(command, env=environment, text=True, **pipes)
    try:
        assert first.stdout.readline() == "alone\n", first.stderr.read()
        second = subprocess.run(
            command, env=environment, text=True, capture_output=True, input="", timeout=60
        )
        assert f"another process runs this sweep ({socket.gethostname()}, process {first.pid})" in (
            second.stderr
        )
    finally:
        first.kill()
        first.communicate()
