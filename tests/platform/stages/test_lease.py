"""Leases: one holder, given back, taken from the dead."""

import dataclasses
import json
import os
import socket
import subprocess
import threading

import pytest

from momo_platform.stages.liveness import (
    HEARTBEAT_SECONDS,
    SILENT_SECONDS,
    ProcessIdentity,
    Watch,
    _state_and_start,
)
from momo_platform.stages.storage import leases as shared
from momo_platform.stages.storage import local_leases as lease
from momo_platform.stages.storage.local_leases import LocalLeases, holder


@pytest.fixture
def drivers():
    made = [LocalLeases(), LocalLeases()]
    yield made
    for leases in made:
        leases.close()


def dead_process():
    """The identity of a process that has ended."""
    process = subprocess.Popen(["sleep", "60"])
    identity = dataclasses.replace(
        ProcessIdentity.own(), pid=process.pid, start_ticks=_state_and_start(process.pid)[1]
    )
    assert not identity.is_gone
    process.kill()
    process.wait()
    return identity


def write(folder, process=None):
    process = process or ProcessIdentity("elsewhere", 17)
    (folder / lease.FILE_NAME).write_text(json.dumps(process.asdict() | {"token": "other"}))


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
    write(tmp_path, dead_process())
    assert holder(tmp_path) is None
    assert drivers[0].acquire(tmp_path) is None


def test_a_silent_host_holds_for_thirty_seconds_of_looks(tmp_path, looks):
    leases = LocalLeases()
    write(tmp_path)
    os.utime(tmp_path / lease.FILE_NAME, (0, 0))  # its clock, or ours, may be anything
    asked = 1
    while (other := leases.acquire(tmp_path)) is not None:
        assert other == "elsewhere, process 17"
        asked += 1
        assert asked < 20
    assert asked >= SILENT_SECONDS / HEARTBEAT_SECONDS
    leases.close()


def test_a_lease_that_is_beaten_is_never_taken(tmp_path, looks):
    leases = LocalLeases()
    write(tmp_path)
    for second in range(40):
        os.utime(tmp_path / lease.FILE_NAME, (second, second))
        assert leases.acquire(tmp_path) == "elsewhere, process 17"
    leases.close()


def test_a_pause_of_the_watcher_is_no_silence_of_the_watched():
    now = 0.0
    watch = Watch(lambda: now)
    assert watch.silent("a", 1) == 0.0
    now = 3600.0  # both were stopped
    assert watch.silent("a", 1) == HEARTBEAT_SECONDS
    assert watch.silent("a", 2) == 0.0


@pytest.mark.parametrize("content", ["", '{"host": "far', "[]", '{"host": "far", "pid": "x"}'])
def test_a_lease_that_cannot_be_read_is_held(tmp_path, drivers, content):
    (tmp_path / lease.FILE_NAME).write_text(content)
    assert drivers[0].acquire(tmp_path) == "another driver"


def test_a_process_number_that_was_given_again_is_not_the_holder(tmp_path, drivers):
    own = ProcessIdentity.own()
    assert not own.is_gone
    write(tmp_path, dataclasses.replace(own, start_ticks="1"))
    assert drivers[0].acquire(tmp_path) is None


def test_a_lease_that_went_to_another_is_lost_and_not_beaten(tmp_path, monkeypatch):
    monkeypatch.setattr(shared, "HEARTBEAT_SECONDS", 0.05)
    leases = LocalLeases()
    leases.acquire(tmp_path)
    assert leases.holds(tmp_path)
    assert not leases.is_lost(tmp_path)
    write(tmp_path)
    assert not leases.holds(tmp_path)
    for _ in range(100):
        if leases.is_lost(tmp_path):
            break
        threading.Event().wait(0.05)
    assert leases.is_lost(tmp_path)
    assert leases.acquire(tmp_path) == "elsewhere, process 17"
    leases.close()
    assert lease.token_of(tmp_path) == "other"


def test_heartbeats_keep_a_lease_young(tmp_path, monkeypatch):
    monkeypatch.setattr(shared, "HEARTBEAT_SECONDS", 0.05)
    leases = LocalLeases()
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
    write(tmp_path, dead_process())
    drivers = [LocalLeases() for _ in range(8)]
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
