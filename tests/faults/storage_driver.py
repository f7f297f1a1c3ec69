"""A driver with a Ray of its own: `storage_driver.py STORAGE SECONDS STAGE...`; a line a change."""

import sys

from storage_stages import stage

from momo_platform.cluster import start_ray
from momo_platform.stages import StageFailed, make_plan, open_storage
from momo_platform.stages.executor import execute

if __name__ == "__main__":
    place, seconds, *names = sys.argv[1:]
    storage, seen = open_storage(place), {}

    def view(statuses):
        for status in statuses:
            text = f"{status.entry.name} {status.state} {status.detail}".strip()
            if seen.get(status.entry.name) != text:
                seen[status.entry.name] = text
                print(text, flush=True)

    stages = [stage(name, float(seconds)) for name in names]
    with start_ray("local", num_cpus=2, object_store_mb=100):
        try:
            execute(make_plan(stages, storage), storage, view)
        except StageFailed as error:
            print(error, flush=True)
            sys.exit(1)
    print("all done", flush=True)
