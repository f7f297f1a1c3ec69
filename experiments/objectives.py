"""What does each objective of stage 3 give?

Hypothesis: contrastive learning makes retrieval; masked words and patches given the other
modality, and matching, help questions about pictures.

    python experiments/objectives.py [--budget smoke|hour|demo] [--plan]

Cost: up to an hour on two cores: five arms, three seeds; stages 1 and 2 run once a seed.

Result: not run yet.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.run import Experiment, main
from momo_platform.sweeps import Settings
from pipelines.config import PipelineConfig


def arms(base: PipelineConfig) -> Mapping[str, Settings]:
    """One objective off each; the compute it leaves goes to more steps."""
    names = ("contrastive", "matching", "pair_mlm", "pair_mim")
    return {"all four": {}, **{f"without {name}": {f"stage3.task.{name}": 0.0} for name in names}}


EXPERIMENT = Experiment("objectives", arms)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
