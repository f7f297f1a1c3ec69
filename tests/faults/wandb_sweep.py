"""`python wandb_sweep.py FOLDER`: a sweep of two arms, of which one fails, run twice, with W&B."""

import sys
from pathlib import Path

from momo_platform.cluster import start_ray
from momo_platform.sweeps import Sweep
from momo_platform.sweeps.driver import SweepOptions, run_sweep
from tests.platform.sweeps.sweep_toys import build

ARMS = {"plain": {"quality": 0.53125}, "broken": {"quality": 0.9, "fails": True}}

if __name__ == "__main__":
    folder = sys.argv[1]
    sweep = Sweep("toys", build, "score", base={"folder": folder}, arms=ARMS)
    storage = str(Path(folder) / "runs")
    with start_ray("local", num_cpus=2):
        for _ in range(2):  # the failed one is tried again
            results = run_sweep(sweep, SweepOptions(storage=storage, wandb=True))
            assert [row.state for row in results.rows] == ["done", "failed"], results.rows
