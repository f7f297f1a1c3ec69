"""Leases: one holder, given back, taken from the dead."""

import json
import os
import socket
import subprocess
import sys
import threading

import pytest

from momo_platform.stages import lease
from momo_platform.stages.lease import Leases, holder


@pytest.fixture
def drivers():
    made = [Leases(), Leases()]
    yield made
    for leases in made:
        leases.close()


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write(folder, **content):
    facts = {"host": socket.gethostname(), "pid": os.getpid(), "token": "other"} | content
    (folder / lease.FILE_NAME).write_text(json.dumps(facts))


def test_one_holder_at_a_time(tmp_path, drivers):
    one, two = drivers
    assert one.acquire(tmp_path) is None
    assert one.acquire(tmp_path) is None  # its own
    assert two.acquire(tmp_path) == f"{socket.gethostname()}, process {os.getpid()}"
    one.release(tmp_path)
    assert holder(tmp_path) is None
    assert two.acquire(tmp_path) is None
    assert [p.name for p in tmp_path.iterdir()] == ["lease.json"]


def test_a_dead_process_of_this_host_holds_nothing(tmp_path, drivers):
    write(tmp_path, pid=dead_process())
    assert holder(tmp_path) is None
    assert drivers[0].acquire(tmp_path) is None


def test_a_silent_host_holds_for_thirty_seconds(tmp_path, drivers):
    write(tmp_path, host="elsewhere")
    assert drivers[0].acquire(tmp_path) == f"elsewhere, process {os.getpid()}"
    old = (tmp_path / lease.FILE_NAME).stat().st_mtime - 31
    os.utime(tmp_path / lease.FILE_NAME, (old, old))
    assert drivers[0].acquire(tmp_path) is None


def test_heartbeats_keep_a_lease_young(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.05)
    leases = Leases()
    leases.acquire(tmp_path)
    file = tmp_path / lease.FILE_NAME
    os.utime(file, (0, 0))
    beaten = threading.Event()
    for _ in range(100):
        if file.stat().st_mtime > 1:
            beaten.set()
            break
        threading.Event().wait(0.05)
    leases.close()
    assert beaten.is_set()
    assert not file.exists()


def test_a_lease_lost_to_another_is_not_deleted(tmp_path, drivers):
    drivers[0].acquire(tmp_path)
    write(tmp_path)  # we were frozen for long; somebody took over
    drivers[0].release(tmp_path)
    assert holder(tmp_path) is not None


def test_many_takers_of_a_dead_lease_and_one_wins(tmp_path):
    write(tmp_path, pid=dead_process())
    drivers = [Leases() for _ in range(8)]
    results = [None] * 8
    barrier = threading.Barrier(8)

    def take(i):
        barrier.wait()
        results[i] = drivers[i].acquire(tmp_path)

    threads = [threading.Thread(target=take, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(None) == 1
    for leases in drivers:
        leases.close()
