"""How should the losses be weighed?

Hypothesis: equal weights are near the best; more weight on words helps the text group and costs
the others.

    python experiments/modality_weights.py [--budget smoke|hour|demo] [--plan]

Cost: up to an hour on two cores: five arms, three seeds; stage 1 runs once a seed.

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
    """One weight changed each."""
    both = ("stage2", "stage3")
    masked = {"stage3.task.pair_mlm": 0.25, "stage3.task.pair_mim": 0.25}
    return {
        "equal": {},
        "words x 4": every_stage("task.mlm", 4.0, both),
        "words x 1/4": every_stage("task.mlm", 0.25, both),
        "contrastive x 4": {"stage3.task.contrastive": 4.0},
        "masked pairs x 1/4": masked,
    }


EXPERIMENT = Experiment("modality_weights", arms)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
