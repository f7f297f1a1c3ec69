"""What does it cost that the objectives on pairs share one masked joint pass?

Hypothesis: a pass each, where only what is predicted is masked, is better a step, and not better
at equal compute.

    python experiments/shared_passes.py [--budget smoke|hour|demo] [--plan]

Cost: 25 min on two cores that ran the tests too; stages 1 and 2 and the first arm were there from
other experiments. Three arms, three seeds.

Result: (2026-11-27, commit 9023007, budget hour, 2 cores Intel Xeon 2.5 GHz; all tasks and
intervals in `experiments/results/shared_passes-2026-11-27.md`), test, mean of three seeds:

| | steps | image | multimodal | text | macro | paired, 95 % |
|---|---|---|---|---|---|---|
| shared pass | 180 | 0.709 | 0.261 | 0.688 | 0.553 | |
| a pass each, equal steps | 180 | 0.704 | 0.245 | 0.696 | 0.548 | -0.004 (-0.007 to -0.001) |
| a pass each, equal compute | 102 | 0.708 | 0.240 | 0.624 | 0.524 | -0.029 (-0.107 to +0.049) |

Sharing costs nothing here: with as many steps, and 1.8 times stage 3's computing, passes of their
own are no better (the first half of the hypothesis is refuted; easy-VQA falls in them, both
retrievals together do not), at equal compute they are behind within the noise of three seeds.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.budget import equal_compute
from experiments.run import Experiment, main
from momo_platform.sweeps import Settings
from pipelines.config import PipelineConfig


def arms(base: PipelineConfig) -> Mapping[str, Settings]:
    """With a pass each, once at equal compute, once with as many steps."""
    apart = {"training.stage3-pairs.task.shared_passes": False}
    same = {**apart, "training.stage3-pairs.train.steps": base.training["stage3-pairs"].train.steps}
    scaled = equal_compute(base, apart)
    return {"shared pass": {}, "a pass each": scaled, "a pass each, equal steps": same}


EXPERIMENT = Experiment("shared_passes", arms, equal=False)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
