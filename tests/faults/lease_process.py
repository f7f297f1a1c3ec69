"""A driver's leases in a process of their own: `lease_process.py FOLDER [HEARTBEAT_SECONDS]`.

Prints 'held' or who holds; then beats until its input is closed. FOLDER is a path, or
`objects:PATH` for the leases of object storage on that path.
"""

import sys
from pathlib import Path

from momo_platform.stages.storage import bakery as object_lease
from momo_platform.stages.storage import local_leases as lease

if __name__ == "__main__":
    given = sys.argv[1]
    if len(sys.argv) > 2:
        lease.HEARTBEAT_SECONDS = object_lease.HEARTBEAT_SECONDS = float(sys.argv[2])
    if given.startswith("objects:"):
        import pyarrow.fs as pafs

        place = given.removeprefix("objects:")
        Path(place, "lease").mkdir(parents=True, exist_ok=True)
        leases, folder = object_lease.ObjectLeases(pafs.LocalFileSystem()), place
    else:
        leases, folder = lease.Leases(), Path(given)
    print(leases.acquire(folder) or "held", flush=True)
    sys.stdin.read()
    leases.close()
