"""What do the three training stages give, at equal compute?

Hypothesis: pictures first, then pictures and texts, then pairs: each stage leaves the next one
less to learn, so that leaving one out, or doing all at once, is worse.

    python experiments/training_stages.py [--budget smoke|hour|demo] [--plan]

Cost: up to an hour on two cores: four arms, three seeds.

Result: not run yet.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.run import Experiment, main
from momo_platform.sweeps import Settings
from pipelines.config import PipelineConfig


def arms(base: PipelineConfig) -> Mapping[str, Settings]:
    """Steps of a stage that is left out go to the others."""
    at_once = {
        "stage1.train.steps": 0,
        "stage2.train.steps": 0,
        "stage3.task.modalities": ("image", "text", "pair"),
        "stage3.train.batch_sizes.image": base.stage2.train.batch_sizes["image"],
    }
    return {
        "three stages": {},
        "without stage 1": {"stage1.train.steps": 0},
        "without stage 2": {"stage2.train.steps": 0},
        "all at once": at_once,
    }


EXPERIMENT = Experiment("training_stages", arms)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
