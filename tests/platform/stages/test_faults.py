"""Killed drivers, workers and whole Rays; two drivers; a full disk. Real processes."""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fault_stages import Noise, build, write_noise
from making import make
from processes import descendants

from momo_platform.stages import Stage, Storage, UserError
from momo_platform.stages.lease import holder
from momo_platform.stages.liveness import SILENT_SECONDS
from momo_platform.stages.manifest import sha256_of

HERE = Path(__file__).parent


def start_driver(storage, *steps, log=None, **environment):
    """A driver with its own Ray, in a process of its own; output to `<storage>.log`."""
    paths = os.pathsep.join(dict.fromkeys([str(HERE), *(p for p in sys.path if p)]))
    env = os.environ | {"PYTHONPATH": paths} | environment
    with Path(log or f"{storage}.log").open("ab") as file:
        return subprocess.Popen(
            [sys.executable, str(HERE / "fault_driver.py"), str(storage), *map(str, steps)],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=env,
        )


def kill(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def contents(storage):
    """(stage, file) → sha256 of every finished artifact, all of them checked."""
    found = {}
    for manifest in storage.all_manifests():
        assert storage.problem(manifest, checksums=True) is None
        for name in manifest.files:
            found[manifest.stage, name] = sha256_of(storage.attempt_path(manifest) / name)
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    storage = Storage(tmp_path_factory.mktemp("undisturbed") / "runs")
    make(storage, build())
    return contents(storage)


def break_and_go_on(root, target, delay, undisturbed):
    """Kill `target` after `delay` seconds of work, then run again and compare."""
    storage = Storage(root)
    storage.create()
    driver = start_driver(root)
    mine = {}
    try:
        deadline = time.time() + 60
        while not list(root.glob("first/*/attempt-*")):
            assert driver.poll() is None, Path(f"{root}.log").read_text()
            assert time.time() < deadline
            time.sleep(0.05)
        time.sleep(delay)
        mine = descendants(driver.pid)
        if target == "driver":
            driver.kill()
        elif target == "worker":
            names = ("ray::first", "ray::left", "ray::right", "ray::steps", "ray::end")
            kill([p for p, command in mine.items() if command.startswith(names)][:1])
        else:
            kill(mine)
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.wait(timeout=60)
        driver.kill()
        driver.wait()
        again = start_driver(root)
        code = again.wait(timeout=120)
        assert code == 0, Path(f"{root}.log").read_text()[-4000:]
        assert contents(storage) == undisturbed
        assert not list(root.glob(".in-use/*"))
        for folder in root.glob("[!.]*/*"):  # nothing half made is left
            assert holder(folder) is None
            assert len(list(folder.glob("attempt-*"))) == 1
    finally:
        kill(mine)


@pytest.mark.parametrize(
    "target",
    ["worker", *(pytest.param(name, marks=pytest.mark.slow) for name in ("driver", "ray"))],
)
def test_after_a_kill_the_next_run_ends_with_the_same_bytes(tmp_path, undisturbed, target):
    break_and_go_on(tmp_path / "runs", target, 1.5, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_thirty_kills_at_random_moments(tmp_path, undisturbed):
    seed = int(os.environ.get("MOMO_TEST_SEED", "20261124"))
    generator = random.Random(seed)
    for number in range(30):
        target = generator.choice(["driver", "worker", "ray"])
        delay = generator.uniform(0.0, 4.0)
        try:
            break_and_go_on(tmp_path / f"runs{number}", target, delay, undisturbed)
        except BaseException:
            print(f"MOMO_TEST_SEED={seed}, kill {number}: {target} after {delay:.3f} s")
            raise


def wait_for(text, log, process, seconds=60, count=1):
    deadline = time.time() + seconds
    while log.read_text().count(text) < count:
        assert process.poll() is None, log.read_text()
        assert time.time() < deadline, log.read_text()
        time.sleep(0.05)


@pytest.mark.slow
def test_of_two_drivers_one_works_and_the_other_waits_or_takes_over(tmp_path):
    """Started together, each stage runs once. Then the working one is killed in the middle."""
    steps = 500  # 25 seconds: longer than two Rays differ in starting
    alone = Storage(tmp_path / "alone")
    make(alone, build(steps))
    root = tmp_path / "runs"
    drivers = [start_driver(root, steps) for _ in range(2)]
    for driver in drivers:
        assert driver.wait(timeout=120) == 0, Path(f"{root}.log").read_text()
    log = Path(f"{root}.log").read_text()
    storage = Storage(root)
    assert contents(storage) == contents(alone)
    for manifest in storage.all_manifests():
        assert len(re.findall(f"^{manifest.stage} done", log, re.MULTILINE)) == 1
    assert re.search(r"^steps leased waits for .*, process \d+$", log, re.MULTILINE)

    other = tmp_path / "other"
    first = start_driver(other, steps)
    wait_for("steps running", Path(f"{other}.log"), first)
    mine = descendants(first.pid)
    second = start_driver(other, steps)
    wait_for(f"process {first.pid}", Path(f"{other}.log"), second)  # says for whom it waits
    first.kill()
    killed = time.time()
    first.wait()
    wait_for("steps running", Path(f"{other}.log"), second, count=2)
    assert time.time() - killed < SILENT_SECONDS
    assert second.wait(timeout=90) == 0, Path(f"{other}.log").read_text()
    assert contents(Storage(other)) == contents(alone)
    kill(mine)


def test_a_full_disk_leaves_no_manifest_and_earlier_artifacts_whole(small_disk):
    storage = Storage(small_disk / "runs")
    first = Stage("first", write_noise, Noise(1))
    make(storage, first)
    before = contents(storage)
    (small_disk / "ballast").write_bytes(b"x" * (3 * 2**20))
    with pytest.raises(UserError, match=r"disk full while stage second wrote to .*--storage"):
        make(storage, Stage("second", write_noise, Noise(2)))
    assert [m.stage for m in storage.all_manifests()] == ["first"]
    assert contents(storage) == before
    (small_disk / "ballast").unlink()
    make(storage, Stage("second", write_noise, Noise(2)))
    assert {m.stage for m in storage.all_manifests()} == {"first", "second"}
