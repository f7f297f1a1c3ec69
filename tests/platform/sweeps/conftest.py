"""A small finished sweep for the tests that look at one."""

import pytest
from sweep_toys import build

from momo_platform.stages import open_storage
from momo_platform.sweeps import Choice, Sweep
from momo_platform.sweeps.driver import SweepOptions, run_sweep
from momo_platform.sweeps.folder import sweep_folder
from momo_platform.sweeps.report import write_report


@pytest.fixture(scope="session")
def finished(tmp_path_factory, ray_local):
    """A sweep of six trials with its report."""
    folder = tmp_path_factory.mktemp("dash")
    sweep = Sweep(
        "pages",
        build,
        "score",
        base={"folder": str(folder), "step_seconds": 0.3},
        space={"quality": Choice((0.2, 0.4, 0.8)), "steps": Choice((5, 6))},
        seeds=(0, 1),
        command=lambda settings: f"run --quality {settings['quality']}",
    )
    options = SweepOptions(storage=str(folder / "runs"), verbose=True)
    results = run_sweep(sweep, options)
    own = sweep_folder(open_storage(options.storage), sweep.name)
    page = write_report(results, sweep, options.storage, own)
    return folder, results, page
