"""Runs a slow sweep of six arms with two seeds in a Ray of its own, for tests that kill it."""

import sys

from sweep_toys import build

from momo_platform.sweeps import Sweep
from momo_platform.sweeps.driver import SweepOptions, run_sweep


def sweep(folder):
    return Sweep(
        name="killed",
        build=build,
        base={"folder": folder, "step_seconds": 0.15},
        metric="score",
        arms={f"q{i}": {"quality": i / 10} for i in range(6)},
        seeds=(0, 1),
    )


if __name__ == "__main__":
    storage, folder = sys.argv[1:]
    run_sweep(sweep(folder), SweepOptions(storage=storage, cluster="local"))
