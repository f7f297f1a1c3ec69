"""A driver that asks Ray's GCS in vain: `ray_driver.py ADDRESS READY`; it waits for READY to go."""

import sys
import time
from pathlib import Path

from momo_platform.cluster import start_ray
from momo_platform.silence import silence

if __name__ == "__main__":
    address, ready = sys.argv[1], Path(sys.argv[2])
    log = ready.with_name("log.txt")  # as of every command
    with silence(log), start_ray(address, num_cpus=1, object_store_mb=100):
        import ray

        ready.touch()
        while ready.exists():
            time.sleep(0.05)
        ray.cluster_resources()
    print("all done", flush=True)
