"""Reader processes where /dev/shm has too little room, or their sockets no place."""

import sys

import pytest
from machines import mounted, run

READ = """
import sys, numpy as np
from momo_platform.data.reader_processes import read_steps
size = int(sys.argv[1]) * 10**6
batches = read_steps(lambda step: {"pixels": np.full(size, step, np.uint8)}, 3, 2, 4)
for step in range(3, 9):
    pixels = next(batches)["pixels"]
    assert pixels.shape == (size,) and (pixels == step).all(), step
print("six batches")
"""


def small(megabytes):
    return mounted(f"mount -t tmpfs -o size={megabytes}m tmpfs /dev/shm")


def test_batches_larger_than_the_shared_memory_arrive_whole_and_in_order():
    done = run(sys.executable, "-c", READ, 20, prefix=small(16), seconds=60)
    assert done.stdout == "six batches\n", done.stderr
    assert "--shm-size" in done.stderr  # that it is slower is told, once a process
    assert done.stderr.count("--shm-size") == 2


def test_where_the_shared_memory_is_full_the_readers_end_with_the_remedy():
    fill = "head -c 2000000 /dev/zero 2>/dev/null > /dev/shm/full; true"
    prefix = mounted("mount -t tmpfs -o size=1m tmpfs /dev/shm", fill)
    done = run(sys.executable, "-c", READ, 1, prefix=prefix, seconds=60)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "UserError" in last
    assert all(word in last for word in ("/dev/shm", "--shm-size", "scaling.reader_processes"))


@pytest.mark.slow
def test_batches_arrive_where_sockets_have_no_place(tmp_path):
    """Descriptors go through sockets below TMPDIR, whose paths may be too long."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    done = run(sys.executable, "-c", READ, 1, seconds=60, TMPDIR=str(folder))
    assert done.stdout == "six batches\n", done.stderr


KILLED = """
import os, signal, multiprocessing, numpy as np
from momo_platform.data.reader_processes import read_steps
batches = read_steps(lambda step: {"pixels": np.zeros(20_000_000, np.uint8)}, 0, 2, 4)
next(batches)
os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
try:
    while True:
        next(batches)
except RuntimeError as error:
    print(error)
"""


def test_a_reader_that_is_killed_ends_the_reading():
    """In the middle of a batch, where that goes through the pipe: it holds 64 kB of 20 MB."""
    done = run(sys.executable, "-c", KILLED, prefix=small(16), seconds=60)
    assert "DataLoader worker (pid" in done.stdout, done.stderr
