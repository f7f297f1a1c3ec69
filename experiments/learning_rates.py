"""Which stage's learning rate makes text better and pairs worse?

Hypothesis: half of all rates gives text 3 points and takes 4 from pairs (`flava.py`). Stage 2 reads
texts without pairs, so half of its rate alone gives the one and does not take the other.

    python experiments/learning_rates.py [--budget smoke|hour|demo] [--plan]

One stage's rate changed each, at equal steps; a recipe is chosen by `validation_mean`, never by the
test parts that the table shows beside it.

Cost: not timed yet.

Result: not run yet.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.budget import STAGES
from experiments.run import Experiment, main
from momo_platform.sweeps import Settings
from pipelines.config import PipelineConfig


def arms(base: PipelineConfig) -> Mapping[str, Settings]:
    """The base's rates; half of one stage's or of all; twice the last one's."""

    def scaled(factor: float, *stages: str) -> Settings:
        rates = {name: getattr(base, name).train.optimizer.learning_rate for name in stages}
        return {f"{n}.train.optimizer.learning_rate": r * factor for n, r in rates.items()}

    return {
        "base": {},
        "all halved": scaled(0.5, *STAGES),
        "stage 1 halved": scaled(0.5, "stage1"),
        "stage 2 halved": scaled(0.5, "stage2"),
        "stage 3 halved": scaled(0.5, "stage3"),
        "stage 3 doubled": scaled(2.0, "stage3"),
    }


EXPERIMENT = Experiment(
    "learning_rates",
    arms,
    show=("groups/*", "tasks/*", "validation_mean", "training_seconds"),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
