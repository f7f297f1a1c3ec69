"""What does each objective of stage 3 give?

Hypothesis: contrastive learning makes retrieval; masked words and patches given the other
modality, and matching, help questions about pictures.

    python experiments/objectives.py [--budget smoke|hour|demo] [--plan]

Cost: about half an hour on two cores when stages 1 and 2 are there, up to an hour otherwise: five
arms, three seeds; stages 1 and 2 run once a seed.

Result: figures in docs/findings.md. The first half holds: without the contrastive objective
retrieval falls to chance (R@10 0.037 and 0.035 instead of 0.113 and 0.083), and the macro mean by
4.5 points (-9.4 to +0.4). The second half is not decided: all four together have the highest mean,
but leaving out one of the other three costs 0.8 to 2.0 points, within intervals of 2 to 5. Easy-VQA
is 0.588 with all four and 0.504 to 0.576 without one of them, within intervals of 0.25.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.design import Design
from experiments.run import Experiment, main
from momo_platform.sweeps import Settings
from pipelines.config import PipelineConfig


def arms(base: PipelineConfig) -> Mapping[str, Settings]:
    """One objective off each; the compute it leaves goes to more steps."""
    names = ("contrastive", "matching", "pair_mlm", "pair_mim")
    return {
        "all four": {},
        **{f"without {name}": {f"training.stage3-pairs.task.{name}": 0.0} for name in names},
    }


DESIGN = Design(("without contrastive", "without matching", "without pair_mlm", "without pair_mim"))
EXPERIMENT = Experiment("objectives", DESIGN, arms)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
