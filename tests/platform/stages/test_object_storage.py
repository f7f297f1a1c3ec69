"""Storage on S3, against a real S3 server process on loopback: the guarantees of a local folder."""

import os
import signal
import threading
import time

import pyarrow.fs as pafs
import pytest
from fault_stages import build
from making import make
from test_faults import contents, descendants, kill, start_driver
from toy_stages import Toy, chain, count_steps

from momo_platform.stages import Stage, Storage, UserError, make_plan, open_storage
from momo_platform.stages import object_lease as leasing
from momo_platform.stages.object_lease import ObjectLeases, token_of
from momo_platform.stages.storage import LeaseLost


@pytest.fixture
def storage(s3_environment, request):
    return open_storage(f"s3://corpora/{request.node.name[:40].strip('[]')}/runs")


def fs_and_folder(storage, manifest):
    fs, _ = pafs.FileSystem.from_uri(storage.uri)
    return fs, f"{storage.folder(manifest.stage, manifest.fingerprint)}/{manifest.attempt}"


def test_a_graph_is_made_once_and_has_the_bytes_of_a_local_one(storage, tmp_path):
    local = Storage(tmp_path / "runs")
    end = build()
    make(local, end)
    make(storage, end)
    assert contents(storage) == contents(local)
    plan = make_plan([end], storage)
    assert [e.action for e in plan.entries] == ["cached"] * 5
    changed = make_plan([Stage("end", end.run, Toy(9), end.inputs)], storage)
    assert changed["end"].action == "run"
    assert "config" in changed["end"].reason


def test_a_damaged_object_is_noticed_before_it_is_used(storage, monkeypatch, tmp_path):
    first, second = chain(1, 2)
    make(storage, first)
    manifest = storage.manifest("s0", make_plan([first], storage)["s0"].fingerprint)
    fs, folder = fs_and_folder(storage, manifest)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # a machine that has not fetched it yet
    with fs.open_output_stream(f"{folder}/sum.json") as file:
        file.write(b"7")  # same length
    assert "sum.json was altered" in storage.problem(manifest, checksums=True)
    with pytest.raises(UserError, match=r"sum.json was altered.*--rerun s0"):
        storage.attempt_path(manifest)
    with fs.open_output_stream(f"{folder}/sum.json") as file:
        file.write(b"123")
    assert make_plan([first], storage)["s0"].reason.startswith("output file sum.json has 3 bytes")
    fs.delete_file(f"{folder}/sum.json")
    assert make_plan([first], storage)["s0"].reason == "output file missing: sum.json"
    make(storage, second)
    assert make_plan([second], storage).to_run == ()


def test_a_bucket_that_is_not_there_or_a_strange_scheme_is_one_clear_line(s3_environment):
    with pytest.raises(UserError, match=r"s3://nobody/runs: can't be written.*AWS_ENDPOINT_URL"):
        open_storage("s3://nobody/runs").create()
    with pytest.raises(UserError, match=r"ftp://x/y.*s3://bucket/runs"):
        open_storage("ftp://x/y")


def test_whole_checkpoints_outlive_the_machine(storage):
    stage = Stage("count", count_steps, Toy(3))
    digest = make_plan([stage], storage)["count"].fingerprint
    workspace = storage.begin("count", digest)
    for step in (1, 2):
        folder = workspace.checkpoints / f"step-{step:08d}"
        folder.mkdir()
        (folder / "state.json").write_text(str(step))
        if step == 1:  # the second is not whole yet
            (folder / "manifest.json").write_text("{}")
    storage.abandon(workspace)  # uploads what is whole
    assert not workspace.output.exists()
    assert storage.newest_checkpoint("count", digest) == 1
    assert make_plan([stage], storage)["count"].reason == "checkpoint at step 1"
    make(storage, stage)
    assert storage.artifact("count", digest).metrics == {"resumed_at": 1}
    assert storage.newest_checkpoint("count", digest) is None


def test_one_lease_of_many_threads(storage):
    """Six drivers take and give back one lease; never two at once."""
    fs, base = pafs.FileSystem.from_uri(storage.uri)
    folder, inside, most, taken = f"{base}/lock/0", [], [], []

    def work():
        leases = ObjectLeases(fs)
        deadline = time.time() + 60
        while leases.acquire(folder) is not None:
            assert time.time() < deadline
            time.sleep(0.02)
        inside.append(1)
        most.append(len(inside))
        assert token_of(fs, folder) == leases.own_token
        time.sleep(0.02)
        inside.pop()
        taken.append(1)
        leases.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), max(most)) == (6, 1)


def test_a_dead_drivers_lease_is_taken_and_its_late_task_is_fenced(storage, monkeypatch):
    fs, _ = pafs.FileSystem.from_uri(storage.uri)
    (stage,) = chain(1)
    digest = make_plan([stage], storage)["s0"].fingerprint
    folder = storage.folder("s0", digest)
    dead, living = ObjectLeases(fs), ObjectLeases(fs)
    assert dead.acquire(folder) is None
    assert "process" in living.acquire(folder)
    workspace = storage.begin("s0", digest, dead.own_token)
    (workspace.output / "sum.json").write_text("1")
    monkeypatch.setattr(leasing, "SILENT_SECONDS", 0.0)  # as if it had been silent for long
    assert living.acquire(folder) is None
    with pytest.raises(LeaseLost):
        storage.begin("s0", digest, dead.own_token)
    make(storage, stage)  # the new holder's
    manifest = storage.manifest("s0", digest)
    with pytest.raises(LeaseLost):
        storage.publish(workspace, manifest)
    assert storage.problem(manifest, checksums=True) is None
    living.close()
    dead.close()


@pytest.mark.slow
def test_a_killed_driver_on_s3_is_followed_by_the_same_bytes(storage, s3_environment, tmp_path):
    local = Storage(tmp_path / "runs")
    end = build(80)
    make(local, end)
    log = tmp_path / "log"
    driver = start_driver(storage.uri, 80, log=log, **s3_environment)
    deadline = time.time() + 90
    steps = make_plan([end], local)["steps"].fingerprint
    while storage.newest_checkpoint("steps", steps) is None:
        assert driver.poll() is None, log.read_text()
        assert time.time() < deadline, log.read_text()
        time.sleep(0.1)
    mine = descendants(driver.pid)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    kill(mine)
    again = start_driver(storage.uri, 80, log=log, **s3_environment)
    assert again.wait(timeout=120) == 0, log.read_text()
    assert contents(storage) == contents(local)
    assert storage.manifest("steps", steps).metrics["resumed_at"] >= 4
