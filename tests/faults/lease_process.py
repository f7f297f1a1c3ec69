"""A driver's leases in a process of their own: `lease_process.py FOLDER [HEARTBEAT_SECONDS]`.

Prints 'held' or who holds; then beats until its input is closed. FOLDER is a path, or
`objects:PATH` for the leases of object storage on that path.
"""

import sys
from pathlib import Path

from momo_platform.stages.storage import leases as all_leases
from momo_platform.stages.storage.bakery import BakeryLeases
from momo_platform.stages.storage.local_leases import LocalLeases

if __name__ == "__main__":
    given = sys.argv[1]
    if len(sys.argv) > 2:
        all_leases.HEARTBEAT_SECONDS = float(sys.argv[2])
    if given.startswith("objects:"):
        import pyarrow.fs as pafs

        place = given.removeprefix("objects:")
        Path(place, "lease").mkdir(parents=True, exist_ok=True)
        leases, folder = BakeryLeases(pafs.LocalFileSystem()), place
    else:
        leases, folder = LocalLeases(), Path(given)
    print(leases.acquire(folder) or "held", flush=True)
    sys.stdin.read()
    leases.close()
