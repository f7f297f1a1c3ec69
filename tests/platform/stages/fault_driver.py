"""A driver process for fault tests: `fault_driver.py STORAGE [STEPS]`, a Ray of its own."""

import sys

from fault_stages import build

from momo_platform.cluster import start_ray
from momo_platform.stages import make_plan, open_storage
from momo_platform.stages.executor import execute

if __name__ == "__main__":
    storage = open_storage(sys.argv[1])
    seen = {}

    def display(statuses):
        for status in statuses:
            text = f"{status.entry.name} {status.state} {status.detail}".strip()
            if seen.get(status.entry.name) != text:
                seen[status.entry.name] = text
                print(text, flush=True)

    with start_ray("local", num_cpus=2, object_store_mb=100):
        execute(make_plan([build(*map(int, sys.argv[2:]))], storage), storage, display)
    print("all done", flush=True)
