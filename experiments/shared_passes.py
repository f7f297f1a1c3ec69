"""What does it cost that the objectives on pairs share one masked joint pass?

Hypothesis: a pass each, where only what is predicted is masked, is better at equal steps, and not
better at equal compute.

    python experiments/shared_passes.py [--budget smoke|hour|demo] [--plan]

Cost: 25 minutes on two busy cores when stages 1 and 2 and the first arm are there from other
experiments: three arms, three seeds.

Result: figures in docs/findings.md. That sharing the pass costs quality is not shown. With as many
steps, and 1.8 times the computing of stage 3, passes of their own are 0.4 points worse (-0.7 to
-0.1), so the first half of the hypothesis is refuted. At equal compute (102 steps instead of 180)
they are 2.9 points behind, within the noise of three seeds (-10.7 to +4.9).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.budget import equal_compute
from experiments.design import Design
from experiments.run import Experiment, main
from momo_platform.sweeps import Settings
from pipelines.config import PipelineConfig


def arms(base: PipelineConfig) -> Mapping[str, Settings]:
    """With a pass each, once at equal compute, once with as many steps."""
    apart = {"training.stage3-pairs.task.shared_passes": False}
    same = {**apart, "training.stage3-pairs.train.steps": base.training["stage3-pairs"].train.steps}
    scaled = equal_compute(base, apart)
    return {"shared pass": {}, "a pass each": scaled, "a pass each, equal steps": same}


DESIGN = Design(("a pass each", "a pass each, equal steps"), margin=0.01)
EXPERIMENT = Experiment("shared_passes", DESIGN, arms, equal=False)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
