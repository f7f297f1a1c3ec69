"""How much should be masked?

Hypothesis: 75 % of the patches alone and 15 % of the words alone are right for MAE and BERT; in
pairs, where the other modality tells, 50 % of the patches and 30 % of the words.

    python experiments/mask_ratios.py [--budget smoke|hour|demo] [--plan]

Cost: about an hour on two cores: eight arms, three seeds; stages are shared where they can be.

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
    """One ratio changed each, at equal compute."""
    return {
        "base": {},
        "patches 50 %": every_stage("task.image_mask_ratio", 0.5, ("stage1", "stage2")),
        "patches 90 %": every_stage("task.image_mask_ratio", 0.9, ("stage1", "stage2")),
        "words 30 %": every_stage("task.text_mask_ratio", 0.3, ("stage2", "stage3")),
        "pairs' patches 25 %": {"stage3.task.pair_image_mask_ratio": 0.25},
        "pairs' patches 75 %": {"stage3.task.pair_image_mask_ratio": 0.75},
        "pairs' words 15 %": {"stage3.task.pair_text_mask_ratio": 0.15},
        "pairs' words 50 %": {"stage3.task.pair_text_mask_ratio": 0.5},
    }


EXPERIMENT = Experiment("mask_ratios", arms)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
