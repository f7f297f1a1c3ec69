"""What of stage 2 harms the words? `training_stages.py` found text 12 points better without it.

Hypothesis: at stage 2's rate masked words are learnt to unigram entropy only, and the encoder's
answer to any text becomes the same; a lower rate, less weight on the words, or pairs beside them
from the start, keeps what fine-tuning needs.

    python experiments/joint_stage.py [--budget smoke|hour|demo] [--plan]

Cost: up to an hour on two cores: four arms, three seeds; stage 1 runs once a seed. Choose by
`validation_mean`; test parts are reported.

Result: not run yet.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.run import Experiment, main
from momo_platform.sweeps import Settings
from pipelines.config import PipelineConfig


def arms(base: PipelineConfig) -> Mapping[str, Settings]:
    """Stage 2 as the demo has it, at 1/4 of stage 1's rate; at all of it; that with less weight on
    words; stages 2 and 3 as one."""
    whole = {
        "stage2.train.optimizer.learning_rate": base.stage1.train.optimizer.learning_rate,
    }
    joined = {
        "stage2.train.steps": 0,
        "stage3.task.modalities": ("image", "text", "pair"),
        "stage3.train.batch_sizes.image": base.stage2.train.batch_sizes["image"],
    }
    return {
        "three stages": {},
        "stage 2 at stage 1's rate": whole,
        "words x 1/4 at that rate": {**whole, "stage2.task.mlm": 0.25},
        "stages 2 and 3 as one": joined,
    }


EXPERIMENT = Experiment(
    "joint_stage", arms, show=("validation_mean", "groups/*", "tasks/*", "training_seconds")
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
