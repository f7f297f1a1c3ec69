"""What does it cost that the objectives on pairs share one masked joint pass?

Hypothesis: a pass each, where only what is predicted is masked, is better a step, and not better
at equal compute.

    python experiments/shared_passes.py [--budget smoke|hour|demo] [--plan]

Cost: up to half an hour on two cores: three arms, three seeds; stages 1 and 2 run once a seed.

Result: not run yet.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.budget import equal_compute
from experiments.run import Experiment, main
from momo_platform.sweeps import Settings
from pipelines.config import PipelineConfig


def arms(base: PipelineConfig) -> Mapping[str, Settings]:
    """With a pass each, once at equal compute, once with as many steps."""
    apart = {"stage3.task.shared_passes": False}
    same = {**apart, "stage3.train.steps": base.stage3.train.steps}
    scaled = equal_compute(base, apart)
    return {"shared pass": {}, "a pass each": scaled, "a pass each, equal steps": same}


EXPERIMENT = Experiment("shared_passes", arms, equal=False)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
