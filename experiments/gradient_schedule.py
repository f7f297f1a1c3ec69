"""Does it matter that gradients of all modalities are accumulated before every update?

Hypothesis: accumulating (or joining, which gives the same gradient) keeps both modalities; a
modality a step is noisier, and one modality after another forgets the first.

    python experiments/gradient_schedule.py [--budget smoke|hour|demo] [--plan]

Cost: up to an hour on two cores: four arms, three seeds; stage 1 runs once a seed.

Result: not run yet.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.budget import every_stage
from experiments.run import Experiment, main
from momo_platform.sweeps import Settings
from pipelines.config import PipelineConfig


def arms(base: PipelineConfig) -> Mapping[str, Settings]:
    """The schedules; a step of one modality costs a part, so there are more of them."""
    stages = ("stage2", "stage3")
    names = ("accumulate", "alternate", "joint", "sequential")
    return {
        name: every_stage("train.gradient_schedule", name, stages) if name != "accumulate" else {}
        for name in names
    }


EXPERIMENT = Experiment("gradient_schedule", arms)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
