"""A driver of its own Ray: `stage_driver.py STORAGE SECONDS STARTED [crash]`; a line a change."""

import os
import sys

from lease_stages import crash_once, say_who, slow_stage

from momo_platform.cluster import start_ray
from momo_platform.stages import make_plan, open_storage
from momo_platform.stages.executor import execute

if __name__ == "__main__":
    place, seconds, started, *rest = sys.argv[1:]
    os.environ.pop("LD_PRELOAD", None)  # a preloaded clock is this process's alone
    storage, seen = open_storage(place), []

    def view(statuses):
        text = f"{statuses[0].entry.name} {statuses[0].state} {statuses[0].detail}"
        if text not in seen[-1:]:
            seen.append(text)
            print(text, flush=True)

    stage = slow_stage(float(seconds), started, crash_once if rest else say_who)
    with start_ray("local", num_cpus=2, object_store_mb=100):
        execute(make_plan([stage], storage), storage, view)
    print("all done", flush=True)
