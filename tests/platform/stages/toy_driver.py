"""A driver process for tests: `toy_driver.py STORAGE` runs a slow counter and an adder on Ray."""

import sys
from pathlib import Path

from toy_stages import Toy, add, chain, count_steps

from momo_platform.cluster import start_ray
from momo_platform.console import Display
from momo_platform.silence import silence
from momo_platform.stages import Stage, make_plan, open_storage
from momo_platform.stages.executor import execute

if __name__ == "__main__":
    storage = open_storage(sys.argv[1])
    counter = Stage("count", count_steps, Toy(12, seconds=0.5), {"up": chain(1)[0]})
    plan = make_plan([Stage("end", add, Toy(1), {"up": counter})], storage)
    with (
        silence(Path(sys.argv[1]) / "ray.log") as stream,
        start_ray("local", num_cpus=2, object_store_mb=100),
        Display(stream) as display,
    ):
        artifacts = execute(plan, storage, display)
        display.print(f"sum {artifacts['end'].metrics['sum']}")
