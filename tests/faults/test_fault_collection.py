"""`gc` beside running plans, and what interrupted ones leave. Real drivers, on Ray."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import shims
from processes import descendants
from test_fault_plan import Settings, make, nothing

from experiments.benchmarks.object_store import S3Server
from momo_platform.stages import Stage, open_storage

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """(URI, environment) of a real S3 server."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        server.start()
        try:
            server.make_bucket("held")
            yield "s3://held/runs", server.environment
        finally:
            server.kill()


def environment(**more):
    paths = os.pathsep.join(dict.fromkeys([str(HERE), *(p for p in sys.path if p)]))
    return os.environ | {"PYTHONPATH": paths} | more


def driver(*arguments, **more):
    return [sys.executable, str(HERE / "collection_driver.py"), *map(str, arguments)]


def artifacts(uri, env, *arguments):
    """`momo artifacts …` in a process of its own; what it prints."""
    command = [sys.executable, "-m", "momo_platform", *arguments, "--storage", str(uri)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows(uri, env):
    return json.loads(artifacts(uri, env, "list", "--json"))


def wait_for(condition, process):
    deadline = time.monotonic() + 100
    while not (found := condition()):
        assert process.poll() is None or found, "the driver has ended"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def make_two_of_each(uri, env):
    """Of the older ones nothing is kept by `gc --keep-last 1`, but for a plan that runs."""
    subprocess.run(driver(uri, "make", 1), env=env, check=True, timeout=100)
    made = int(time.time())
    while int(time.time()) == made:  # manifests count seconds
        time.sleep(0.05)
    subprocess.run(driver(uri, "make", 2), env=env, check=True, timeout=100)


@contextlib.contextmanager
def running(uri, env, folder):
    """A driver whose first stage goes on for hours."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(driver(uri, "run", folder), env=env, stdout=log, stderr=log)
    mine = {}
    try:
        wait_for((folder / "started").exists, process)
        mine = descendants(process.pid)
        yield process
    finally:
        process.kill()
        process.wait()
        for pid in mine:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def check_that_gc_takes_nothing(uri, env, process):
    """While the plan's first stage runs."""

    def finished():
        return {(r["name"], r["fingerprint"]) for r in rows(uri, env) if "step" not in r}

    before = finished()
    told = artifacts(uri, env, "gc", "--keep-last", "1")
    assert "deleted first/" not in told, "a running stage reads it"
    assert "deleted second/" not in told, "a stage will read it in hours"
    assert finished() == before
    [unfinished] = [r for r in rows(uri, env) if r["name"] == "long"]
    assert unfinished["step"] == 400
    assert f"process {process.pid}" in unfinished["held_by"]


def test_gc_takes_nothing_of_a_running_plan_and_frees_what_a_killed_one_left_for_days(tmp_path):
    uri, env = tmp_path / "runs", environment(XDG_CACHE_HOME=str(tmp_path / "cache"))
    make_two_of_each(uri, env)
    with running(uri, env, tmp_path) as process:
        check_that_gc_takes_nothing(uri, env, process)

    [left] = [r for r in rows(uri, env) if r["name"] == "long"]
    assert left["held_by"] is None
    assert left["step"] == 400
    assert left["bytes"] > 1000
    assert "checkpoint at step 400" in artifacts(uri, env, "list")
    [folder] = (uri / "long").iterdir()
    told = artifacts(uri, env, "gc", "--keep-last", "1")
    assert "first/" not in told, "what the checkpoint would go on with is kept"
    assert told.startswith("deleted second/"), "a dead driver's plan holds nothing"
    assert folder.exists()
    told = artifacts(uri, env, "gc", "--keep-last", "1", "--unfinished-days", "0", "--dry-run")
    assert f"would delete long/{folder.name}: checkpoint at step 400" in told
    assert folder.exists()
    artifacts(uri, env, "gc", "--keep-last", "1", "--unfinished-days", "0")
    assert not folder.exists()
    assert len(list((uri / "first").iterdir())) == 1


@pytest.mark.slow
def test_gc_takes_nothing_of_a_running_plan_on_object_storage(bucket, tmp_path):
    uri, server = bucket
    env = environment(XDG_CACHE_HOME=str(tmp_path / "cache"), **server)
    make_two_of_each(uri, env)
    with running(uri, env, tmp_path) as process:
        check_that_gc_takes_nothing(uri, env, process)
        # of no age at all: what is held, and the running workers' scratch, are not touched
        artifacts(uri, env, "gc", "--keep-last", "1", "--unfinished-days", "0")
        (tmp_path / "go").touch()
        process.wait(timeout=100)
        assert (tmp_path / "log").read_text().endswith("sum 4\n")
    # nothing is left of the run's record: what nobody uses goes
    subprocess.run(driver(uri, "make", 3), env=env, check=True, timeout=100)
    told = artifacts(uri, env, "gc", "--keep-last", "1", "--unfinished-days", "0")
    gone = sorted(line.split("/")[0] for line in told.splitlines()[:-1])
    assert gone == ["deleted first", "deleted second"]


def test_gc_frees_dead_processes_scratch_in_the_cache_and_no_living_ones(tmp_path):
    env = environment(XDG_CACHE_HOME=str(tmp_path / "cache"))
    code = (
        "import sys\n"
        "from momo_platform.stages.storage.scratch import scratch_folder\n"
        "folder = scratch_folder('long')\n"
        "(folder / 'output').write_text('x' * 2000)\n"
        "print(folder, flush=True)\n"
        "sys.stdin.read()\n"
    )

    def work():
        return subprocess.Popen(
            [sys.executable, "-c", code],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    (tmp_path / "runs").mkdir()
    with work() as dead, work() as living:
        folders = [Path(process.stdout.readline().strip()) for process in (dead, living)]
        dead.kill()
        dead.wait()
        assert "scratch of a dead process (2" in artifacts(tmp_path / "runs", env, "gc")
        assert [folder.exists() for folder in folders] == [False, True]


USING = """
import sys
from test_fault_plan import Settings, nothing
from momo_platform.exit_codes import exit_code
from momo_platform.stages import Stage, make_plan, open_storage
from momo_platform.stages.in_use import using

def work():
    storage = open_storage(sys.argv[1])
    with using(make_plan([Stage("s0", nothing, Settings())], storage), storage):
        print("runs")
    return 0

sys.exit(exit_code(work, "again"))
"""


@pytest.mark.parametrize("how", ["a file", "EROFS", "EDQUOT"])
def test_a_run_that_cant_say_what_it_uses_does_not_start(how, tmp_path):
    uri, env = tmp_path / "runs", environment()
    uri.mkdir()
    if how == "a file":
        (uri / ".in-use").touch()
    else:
        env |= shims.environment(shims.Fault(("mkdir",), how, "/.in-use"))
    command = [sys.executable, "-c", USING, str(uri)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.count("\n") == 1
    assert ".in-use" in done.stderr


def two_of(uri):
    """Two artifacts of one name, of which a `gc` keeps one."""
    storage = open_storage(uri)
    make(storage, Stage("s0", nothing, Settings()))
    made = int(time.time())
    while int(time.time()) == made:  # manifests count seconds
        time.sleep(0.05)
    make(storage, Stage("s0", nothing, Settings(width=3)))


def gc(uri, **more):
    command = [sys.executable, "-m", "momo_platform", "gc", "--keep-last", "1"]
    command += ["--storage", str(uri)]
    env = environment(XDG_CACHE_HOME=f"{uri}-cache", **more)
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)


def test_gc_frees_room_on_a_full_disk_and_warns_that_no_run_is_told(tmp_path):
    uri = tmp_path / "runs"
    two_of(uri)
    done = gc(uri, **shims.environment(shims.full_disk(f"{uri}/")))
    assert done.returncode == 0, done.stderr
    assert "deleted s0/" in done.stdout
    assert done.stderr.count("\n") == 1
    assert "disk is full" in done.stderr
    assert len(list((uri / "s0").iterdir())) == 1


@pytest.mark.parametrize("how", ["a file", "EROFS"])
def test_gc_that_cant_see_or_say_who_uses_what_deletes_nothing(how, tmp_path):
    uri = tmp_path / "runs"
    two_of(uri)
    more = {}
    if how == "a file":
        (uri / ".in-use").touch()
    else:
        more = shims.environment(shims.Fault(("mkdir",), how, "/.in-use"))
    done = gc(uri, **more)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert ".in-use" in done.stderr
    assert len(list((uri / "s0").iterdir())) == 2


@pytest.mark.parametrize("command", ["gc", "list"])
def test_a_folder_that_is_no_storage_is_left_as_it_is(command, tmp_path):
    folder = tmp_path / "thesis"
    (folder / "chapters").mkdir(parents=True)
    (folder / "chapters" / "one.tex").write_text("mine")
    before = set(folder.rglob("*"))
    artifacts(folder, environment(XDG_CACHE_HOME=str(tmp_path / "cache")), command)
    assert set(folder.rglob("*")) == before
