"""Cores of containers, near GPUs, of workers."""

import os
import threading

import pytest

from momo_platform.cores import cores_near, cores_of_worker, pin_cores, usable_cores

HERE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.mark.parametrize(
    "files, expected",
    [
        ({}, HERE),
        ({"cpu.max": "max 100000\n"}, HERE),
        ({"cpu.max": "150000 100000\n"}, min(2, HERE)),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, HERE),
    ],
)
def test_a_containers_share_of_the_cores_is_counted(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == expected


@pytest.mark.parametrize(
    "line, file", [("0::/job.slice/step", "cpu.max"), ("3:cpu,cpuacct:/job.slice/step", "v1")]
)
@pytest.mark.parametrize("group", ["job.slice", "job.slice/step"])
def test_a_share_given_to_a_group_around_or_below_counts(tmp_path, line, file, group):
    """As a scheduler or a service manager gives it, without a container."""
    (tmp_path / "own").write_text(f"7:memory:/elsewhere\n{line}\n")
    place = tmp_path / ("" if file == "cpu.max" else "cpu") / group
    place.mkdir(parents=True)
    if file == "cpu.max":
        (place / file).write_text("100000 100000\n")
    else:
        (place / "cpu.cfs_quota_us").write_text("100000\n")
        (place / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(tmp_path, tmp_path / "own") == 1
    (tmp_path / "own").write_text("0::/other\n")
    assert usable_cores(tmp_path, tmp_path / "own") == HERE


def test_the_system_tells_cores_near_a_device(tmp_path):
    (tmp_path / "0000:3b:00.0").mkdir()
    (tmp_path / "0000:3b:00.0" / "local_cpulist").write_text("0-2,8,10-11\n")
    assert cores_near("0000:3b:00.0", tmp_path) == {0, 1, 2, 8, 10, 11}
    assert cores_near("0000:5e:00.0", tmp_path) == set()
    assert cores_near("", tmp_path) == set()


def test_workers_share_the_cores_evenly_and_each_once():
    allowed = {0, 1, 2, 3, 6, 7, 9}
    parts = [cores_of_worker(allowed, set(), rank, 3, split=True) for rank in range(3)]
    assert sorted(core for part in parts for core in part) == sorted(allowed)
    assert {len(part) for part in parts} == {2, 3}
    assert cores_of_worker(allowed, set(), 0, 3, split=False) == allowed
    assert cores_of_worker({0, 1}, set(), 2, 3, split=True) == {0, 1}  # too few to split


def test_a_worker_stays_near_its_gpu_within_what_is_allowed():
    assert cores_of_worker({0, 1, 2, 3}, {2, 3, 4}, 0, 2, split=True) == {2, 3}
    assert cores_of_worker({0, 1}, {4, 5}, 1, 2, split=False) == {0, 1}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no threads")
def test_pinning_holds_for_the_thread_and_those_it_starts():
    allowed, seen = sorted(os.sched_getaffinity(0)), []

    def worker():
        pin_cores(set(), 0, len(allowed), split=True)
        child = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
        child.start()
        child.join()

    thread = threading.Thread(target=worker)
    thread.start()
    thread.join()
    assert seen == [{allowed[0]}]
    assert sorted(os.sched_getaffinity(0)) == allowed
