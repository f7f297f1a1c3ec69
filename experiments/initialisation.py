"""What must stages 2 and 3 start from?

Hypothesis: a shared encoder that begins as a masked autoencoder of pictures (stage 1) learns the
rest better than from random weights; longer is better, but less than its cost elsewhere; linear
layers drawn as MAE draws them (Xavier) learn faster at this width than as BERT draws them
(normal, 0.02).

    python experiments/initialisation.py [--budget smoke|hour|demo] [--plan]

Cost: up to an hour on two cores: four arms, three seeds.

Result: not run yet.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.budget import with_model
from experiments.run import Experiment, main
from momo_platform.sweeps import Settings
from pipelines.config import PipelineConfig


def arms(base: PipelineConfig) -> Mapping[str, Settings]:
    """Not at equal compute: stages 2 and 3 are the same in all arms."""
    twice = 2 * base.stage1.train.steps
    return {
        "stage 1": {},
        "random": {"stage1.train.steps": 0},
        "stage 1 twice as long": {"stage1.train.steps": twice},
        "stage 1, normal 0.02": with_model(linear_init="normal"),
    }


EXPERIMENT = Experiment("initialisation", arms, equal=False)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
