"""Memory that is freed and taken again comes without fresh pages."""

import json
import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import json, resource, threading
import numpy as np
from momo_platform.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        arrays = [np.ones(2**20) for _ in range(8)]
        del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def in_thread():
    found = []
    def work():
        faults()
        found.append(faults())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]

without = faults(), in_thread()
kept = keep_freed_memory()
faults()
print(json.dumps([kept, without, (faults(), in_thread())]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's malloc")
def test_freed_memory_is_used_again_without_fresh_pages():
    found = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True
    )
    kept, without, afterwards = json.loads(found.stdout)
    assert kept
    for before, after in zip(without, afterwards, strict=True):
        assert before > 5_000  # of 82,000 pages, where none is a large one
        assert after < before / 20
