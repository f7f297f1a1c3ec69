"""What does it cost that the objectives on pairs share one masked joint pass?

Hypothesis: a pass each, where only what is predicted is masked, is better at equal steps, and not
better at equal compute.

    python experiments/shared_passes.py [--budget smoke|hour|demo] [--plan]

Design: 3 seeds; 1 learning rate an arm; 2 comparisons by macro, one family: a pass each; a pass
each, equal steps. What lies within a margin of 0.01 is called equal. The margin was chosen on
2026-11-30, after the published run, which can't use it.

Cost: 25 minutes on two busy cores when stages 1 and 2 and the first arm are there from other
experiments: three arms, three seeds.

Result: figures in docs/findings.md. No difference was found. With as many steps, and 1.8 times the
computing of stage 3, passes of their own have -0.4 points (-0.7 to -0.1, corrected p 0.051); at
equal compute (102 steps instead of 180) -2.9 (-10.7 to +4.9).
"""

from __future__ import annotations

import sys

from experiments.budget import equal_compute
from experiments.design import Design
from experiments.run import Arms, Experiment, main
from pipelines.config import PipelineConfig


def arms(base: PipelineConfig) -> Arms:
    """With a pass each, once at equal compute, once with as many steps."""
    apart = {"training.stage3-pair.task.shared_passes": False}
    same = {**apart, "training.stage3-pair.train.steps": base.training["stage3-pair"].train.steps}
    scaled = equal_compute(base, apart)
    return {"shared pass": {}, "a pass each": scaled, "a pass each, equal steps": same}


DESIGN = Design(("a pass each", "a pass each, equal steps"), margin=0.01)
EXPERIMENT = Experiment("shared_passes", arms, design=DESIGN, equal=False)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
