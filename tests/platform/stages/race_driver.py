"""Races for the leases of a storage: `race_driver.py URI [bakery]`.

Prints how its leases work; then for every line of its input, a name, 'held' or who holds the lease.
"""

import sys

from momo_platform.stages import open_storage
from momo_platform.stages.storage.bakery import BakeryLeases

if __name__ == "__main__":
    storage = open_storage(sys.argv[1])
    leases = BakeryLeases(storage.files.fs) if sys.argv[2:] == ["bakery"] else storage.leases()
    print(type(leases).__name__, flush=True)
    for line in sys.stdin:
        print(leases.acquire(storage.folder("race", line.strip())) or "held", flush=True)
    leases.close()
